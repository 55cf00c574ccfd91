// Splits a command line into words, and makes idempotency keys.

/** Split a line into words at blanks as a shell does: quotes group, and a backslash escapes one
 * character. Throws Error for an open quote or a backslash at the end. */
export function wordsOf(line) {
  const words = [];
  let word = null;
  let quote = "";
  for (let i = 0; i < line.length; i += 1) {
    const character = line[i];
    if (character === "\\" && quote !== "'") {
      const next = line[(i += 1)];
      if (next === undefined) throw new Error("The line ends with a backslash.");
      // Within double quotes a backslash escapes only characters that are special there.
      word = (word ?? "") + (quote && !'"\\$`'.includes(next) ? `\\${next}` : next);
    } else if (quote) {
      if (character === quote) quote = "";
      else word += character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= "";
    } else if (/\s/.test(character)) {
      if (word !== null) words.push(word);
      word = null;
    } else {
      word = (word ?? "") + character;
    }
  }
  if (quote) throw new Error(`A quote (${quote}) is not closed.`);
  if (word !== null) words.push(word);
  if (!words.length || !words[0].trim()) throw new Error("Write the command to run.");
  return words;
}

export const looksLikeShell = (words) =>
  words.some((word) => /^(\||\|\||&&?|;|[0-9]?>>?|<)$|^[$~]/.test(word));

/** An idempotency key: work sent again after a lost answer makes no second job. */
export function newKey() {
  // randomUUID exists only in secure contexts; plain HTTP in a local network is not one.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
