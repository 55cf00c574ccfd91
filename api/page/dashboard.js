// Sets the chosen theme, then loads the page's modules. A classic script runs before the first
// paint, so the page never shows in the wrong theme first.

(() => {
  const THEME_KEY = "crewlog.theme";
  const root = document.documentElement;

  try {
    const chosen = localStorage.getItem(THEME_KEY);
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // Without storage the page has the theme of the system.
  }

  function tell(sentence) {
    const main = document.getElementById("page");
    if (!main) return;
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.setAttribute("role", "alert");
    notice.textContent = sentence;
    main.replaceChildren(notice);
  }

  // The address changes with every version of the page, so a browser never mixes cached versions.
  import("{{parts}}/app/app.js").catch((problem) => {
    console.error(problem);
    tell("The page could not be loaded. Reload it; if that does not help, the server may be away.");
  });
})();
