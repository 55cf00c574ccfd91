// Shows the OpenAPI documents. Calls carry the token only after it was entered under "Authorize".
const dark = window.matchMedia('(prefers-color-scheme: dark)');
const follow = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
dark.addEventListener('change', follow);
follow();

const documents = {
  native: '/crewlog/v1/openapi.json',
  gitoma: '/openapi/gitoma.json',
  codeplane: '/openapi/codeplane.json',
  board: '/openapi/board.json',
};
const named = new URLSearchParams(window.location.search).get('api');
const shown = Object.hasOwn(documents, named) ? named : 'native';
document.querySelector(`nav a[href="?api=${shown}"]`).setAttribute('aria-current', 'page');

window.SwaggerUIBundle({
  url: documents[shown],
  dom_id: '#reference',
  deepLinking: true,
  validatorUrl: null,
});
