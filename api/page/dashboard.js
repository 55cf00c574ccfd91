// Runs before the first paint: sets the theme that was chosen, then loads the page's modules.
// It is a classic script so that nobody sees the page in the other theme first.

(() => {
  const THEME_KEY = "crewlog.theme";
  const root = document.documentElement;

  try {
    const chosen = localStorage.getItem(THEME_KEY);
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // A browser that keeps nothing shows the theme of the system.
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

  // The address changes with every version of the page, so what a browser holds is never mixed.
  import("{{parts}}/app/app.js").catch((problem) => {
    console.error(problem);
    tell("The page could not be loaded. Reload it; if that does not help, the server may be away.");
  });
})();
