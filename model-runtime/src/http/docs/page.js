// Relative to the page, as everything on it.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  // The model's name, once the document is there.
  onComplete: () => { document.title = document.querySelector(".info .title")?.firstChild?.textContent ?? document.title; },
});
