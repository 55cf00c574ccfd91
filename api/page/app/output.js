// The live output of a job. Written to the document directly, because there may be many lines.

const SHOWN_LINES = 5_000; // lines in the document at a time
const HELD_LINES = 200_000; // lines that this page keeps

// Terminal colours and cursor movements are removed; other control characters are made visible.
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

export function printable(line) {
  return line
    .replace(ESCAPES, "")
    .replace(CONTROLS, (c) => String.fromCharCode(c === "\x7f" ? 0x2421 : 0x2400 + c.charCodeAt(0)));
}

/**
 * Lines of output; the document holds a window of them. While following, the window is the last
 * lines; otherwise it stays where the reader is. Drawn at most once a frame, and less often if
 * drawing is slow, so the page stays usable while a job writes without end.
 *
 * A line is `{text, kind}`: kind "" for output, else a note of the page. `told` gets
 * `{all, first, last, count, earlier, gone, follow, later}` at every change: the numbers of the
 * first and last line of output that are shown, and how many there are.
 */
export class OutputView {
  #box;
  #told;
  #lines = [];
  #gone = 0; // dropped lines before #lines[0]
  #from = 0; // first line of the window
  #to = 0; // end of the window, exclusive
  #follow = true;
  #lastTop = 0;
  #drawing = false;
  #count = 0; // lines of output so far, without notes
  #resized;

  constructor(box, told) {
    this.#box = box;
    this.#told = told;
    box.addEventListener("scroll", this.#scrolled);
    this.#resized = new ResizeObserver(() => this.#toEnd());
    this.#resized.observe(box);
  }

  close() {
    this.#box.removeEventListener("scroll", this.#scrolled);
    this.#resized.disconnect();
  }

  reset() {
    this.#lines = [];
    this.#gone = this.#from = this.#to = this.#count = 0;
    this.#box.replaceChildren();
    this.follow(true);
  }

  add(lines) {
    for (const { text, kind } of lines) {
      if (!kind) this.#count += 1;
      this.#lines.push({ text, kind, number: this.#count });
    }
    if (this.#lines.length > HELD_LINES * 1.25) {
      const over = this.#lines.length - HELD_LINES;
      this.#lines = this.#lines.slice(over);
      this.#gone += over;
    }
    this.#draw();
  }

  get #total() {
    return this.#gone + this.#lines.length;
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      const started = performance.now();
      this.#place();
      this.#toEnd();
      const cost = performance.now() - started;
      setTimeout(() => {
        this.#drawing = false;
        if (this.#follow && this.#to < this.#total) this.#draw();
      }, cost > 12 ? 5 * cost : 0);
    });
  }

  #place() {
    if (this.#follow) this.#show(Math.max(this.#gone, this.#total - SHOWN_LINES), this.#total);
    else {
      const from = Math.max(this.#from, this.#gone);
      this.#show(from, Math.min(this.#total, from + SHOWN_LINES));
    }
  }

  /** Show the lines `from` to `to`, and keep those already shown. */
  #show(from, to) {
    if (from >= this.#to || from < this.#from) {
      this.#box.replaceChildren(this.#fragment(from, to));
    } else {
      for (let n = this.#from; n < from; n += 1) this.#box.firstChild.remove();
      if (to > this.#to) this.#box.append(this.#fragment(this.#to, to));
    }
    this.#from = from;
    this.#to = to;
    this.#tell();
  }

  #fragment(from, to) {
    const fragment = document.createDocumentFragment();
    for (let n = from; n < to; n += 1) {
      const { text, kind } = this.#lines[n - this.#gone];
      const line = document.createElement("div");
      line.textContent = printable(text);
      if (kind) line.className = kind;
      fragment.append(line);
    }
    return fragment;
  }

  #tell() {
    const [from, to, total] = [this.#from, this.#to, this.#total];
    const later = !this.#follow && !(to === total && total <= SHOWN_LINES);
    const at = (index) => this.#lines[index - this.#gone];
    this.#told({
      all: from === 0 && to === total,
      first: Math.max(1, at(from)?.number ?? 0),
      last: at(to - 1)?.number ?? 0,
      count: this.#count,
      earlier: from > this.#gone,
      gone: this.#gone > 0 && from === this.#gone,
      follow: this.#follow,
      later,
    });
  }

  earlier() {
    this.#setFollow(false);
    const from = Math.max(this.#gone, this.#from - SHOWN_LINES / 2);
    const shift = this.#from - from;
    this.#show(from, Math.min(this.#total, from + SHOWN_LINES));
    // The line at the top must not move.
    const anchor = this.#box.children[shift];
    if (anchor) this.#box.scrollTop = anchor.offsetTop - this.#box.firstChild.offsetTop;
    this.#lastTop = this.#box.scrollTop;
    this.#box.focus({ preventScroll: true });
  }

  follow(wanted) {
    this.#setFollow(wanted);
    if (wanted) this.#draw();
  }

  #setFollow(follow) {
    this.#follow = follow;
    this.#tell();
  }

  /** Also called when the lines change their height. */
  #toEnd() {
    if (!this.#follow) return;
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#lastTop = this.#box.scrollTop;
  }

  rewrapped() {
    this.#toEnd();
  }

  /** Scrolling up stops following; scrolling to the end resumes it. */
  #scrolled = () => {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 4;
    if (this.#follow && scrollTop < this.#lastTop - 2 && !atEnd) this.#setFollow(false);
    else if (!this.#follow && atEnd && scrollTop > this.#lastTop && this.#to === this.#total) {
      this.#setFollow(true);
    }
    this.#lastTop = scrollTop;
  };
}
