//! The document of the interface is true: what it says can be asked is answered, and answers are as it says.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{Server, key_file, model_dir, other_model};

const KEY: &str = "a-key-for-the-tests-0123456789";

/// What cannot be made to happen from outside: faults of the model and of the server, a model thread that hangs for two minutes.
const NOT_PROVOKED: [(&str, &str, &str); 4] = [
    ("post", "/predict", "500"),
    ("post", INFER, "500"),
    ("get", "/livez", "503"),
    ("get", "/v2/health/live", "503"),
];

/// Paths as the document has them.
const INFER: &str = "/v2/models/{name}/infer";
const MODEL: &str = "/v2/models/{name}";
const MODEL_READY: &str = "/v2/models/{name}/ready";

/// The document, and which of its answers have been seen.
struct Document {
    text: Value,
    seen: BTreeSet<(String, String, String)>,
}

impl Document {
    async fn of(server: &Server) -> Self {
        let (status, text) = server.get("/openapi.json").await;
        assert_eq!(status, 200);
        Self { text, seen: BTreeSet::new() }
    }

    /// All answers that it promises.
    fn promised(&self) -> BTreeSet<(String, String, String)> {
        let mut all = BTreeSet::new();
        for (path, item) in self.text["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for status in operation["responses"].as_object().unwrap().keys() {
                    all.insert((method.clone(), path.clone(), status.clone()));
                }
            }
        }
        all
    }

    /// The answer must be one of those, with its type, headers and shape.
    fn check(&mut self, method: &str, path: &str, status: &str, kind: &str, headers: &[String], body: &str) {
        let place = format!("{method} {path} {status}: {body}");
        let promised = &self.text["paths"][path][method]["responses"][status];
        assert!(promised.is_object(), "not in the document: {place}");
        for header in promised["headers"].as_object().into_iter().flatten() {
            // Some are there only when there is something to say.
            let optional =
                header.0.starts_with("x-truncated") || header.0 == "inference-header-content-length";
            assert!(optional || headers.contains(&header.0.to_lowercase()), "no {} in {place}", header.0);
        }
        let schema = &promised["content"][kind]["schema"];
        assert!(schema.is_object(), "{kind} is not in the document: {place}");
        if kind == "application/json" {
            let body: Value = serde_json::from_str(body).unwrap();
            self.validate(schema, &body, &place);
        }
        self.seen.insert((method.to_owned(), path.to_owned(), status.to_owned()));
    }

    fn validate(&self, schema: &Value, instance: &Value, place: &str) {
        // The document's references start at its root.
        let mut root = schema.clone();
        root["components"] = self.text["components"].clone();
        let validator = jsonschema::draft202012::new(&root).unwrap();
        let problems: Vec<String> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{place}: {problems:?}");
    }

    async fn check_response(&mut self, method: &str, path: &str, response: reqwest::Response) {
        let header =
            |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let kind = header("content-type").unwrap_or_default();
        // Of these the parameters are part of the name.
        let kind =
            if path == "/metrics" { kind } else { kind.split(';').next().unwrap_or_default().to_owned() };
        let headers: Vec<String> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
        let status = response.status().as_str().to_owned();
        let body = response.text().await.unwrap();
        self.check(method, path, &status, &kind, &headers, &body);
    }
}

/// A server that is asked with and without its key.
struct Asked<'a> {
    server: &'a Server,
    client: reqwest::Client,
}

impl<'a> Asked<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, client: reqwest::Client::new() }
    }

    /// A request to a path as the document has it, with the name of the model.
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.server.url, path.replace("{name}", "rampart"));
        self.client.request(method.to_uppercase().parse().unwrap(), url)
    }

    async fn get(&self, document: &mut Document, path: &str) {
        document
            .check_response("get", path, self.request("get", path).bearer_auth(KEY).send().await.unwrap())
            .await;
    }

    async fn post(&self, document: &mut Document, path: &str, body: &Value) {
        let request = self.request("post", path).bearer_auth(KEY).json(body);
        document.check_response("post", path, request.send().await.unwrap()).await;
    }

    async fn without_key(&self, document: &mut Document, method: &str, path: &str) {
        document
            .check_response(method, path, self.request(method, path).json(&json!({})).send().await.unwrap())
            .await;
    }
}

/// One text for `/v2`.
fn infer(text: &str) -> Value {
    json!({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]})
}

#[tokio::test]
async fn every_answer_that_is_documented_happens_and_is_as_documented() {
    let file = key_file(&format!("{KEY}\n"));
    let keys = ["--api-key-file", file.path().to_str().unwrap()];
    let server = Server::ready(&[&keys[..], &["--body-limit", "1KiB", "--read-timeout", "300ms"]].concat());
    let mut document = Document::of(&server).await;
    let asked = Asked::new(&server);

    // 200 and 422.
    for body in [
        json!({"inputs": "Zoë lives in Berlin."}),
        json!({"inputs": ["Zoë", ""], "parameters": {"aggregation_strategy": "first", "truncate": true}}),
        json!({"inputs": "Zoë lives.", "options": {"wait_for_model": true}, "parameters": null}),
        json!({"inputs": []}),
    ] {
        asked.post(&mut document, "/predict", &body).await;
    }
    for body in [
        infer("Zoë lives in Berlin."),
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}),
    ] {
        asked.post(&mut document, INFER, &body).await;
    }
    // 400 twice, 413, 415, 408, 401.
    for path in ["/predict", INFER] {
        for body in ["{", "[]"] {
            let request =
                asked.request("post", path).bearer_auth(KEY).header("content-type", "application/json");
            document.check_response("post", path, request.body(body).send().await.unwrap()).await;
        }
        asked.post(&mut document, path, &json!({"inputs": "a".repeat(2000)})).await;
        let text =
            asked.request("post", path).bearer_auth(KEY).header("content-type", "text/plain").body("x");
        document.check_response("post", path, text.send().await.unwrap()).await;
        let (head, body) = exchange(
            &server.address,
            &format!(
                "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{",
                path.replace("{name}", "rampart")
            ),
        );
        let names: Vec<String> =
            head.lines().filter_map(|line| Some(line.split_once(':')?.0.to_lowercase())).collect();
        document.check("post", path, &head[9..12], "application/json", &names, &body);
        asked.without_key(&mut document, "post", path).await;
    }

    // Everything that is only read, and what clients may not do.
    let read = ["/health", "/livez", "/readyz", "/metrics", "/info", "/openapi.json", "/docs"];
    let read_of_protocol = ["/v2", "/v2/health/live", "/v2/health/ready", MODEL, MODEL_READY];
    for path in read.into_iter().chain(read_of_protocol) {
        asked.get(&mut document, path).await;
    }
    for path in ["/info", "/v2", MODEL] {
        asked.without_key(&mut document, "get", path).await;
    }
    for path in
        ["/v2/repository/index", "/v2/repository/models/{name}/load", "/v2/repository/models/{name}/unload"]
    {
        asked.post(&mut document, path, &json!({})).await;
        asked.without_key(&mut document, "post", path).await;
    }
    // Another model than the one that is there.
    for (method, path) in [("get", MODEL), ("get", MODEL_READY), ("post", INFER)] {
        let url = format!("{}{}", server.url, path.replace("{name}", "other"));
        let request = asked.client.request(method.to_uppercase().parse().unwrap(), url).bearer_auth(KEY);
        document.check_response(method, path, request.json(&infer("a")).send().await.unwrap()).await;
    }

    // A full queue: the first text waits for company.
    let flags = [
        "--max-queue",
        "1",
        "--max-batch-size",
        "2",
        "--max-batch-delay",
        "100s",
        "--request-timeout",
        "101s",
    ];
    let mut full = Server::ready(&flags);
    let waiting =
        tokio::spawn(Asked::new(&full).request("post", "/predict").json(&json!({"inputs": "Zoë"})).send());
    full.wait_for_health(|_, health| health["queue_depth"] == 1).await;
    let asked = Asked::new(&full);
    asked.post(&mut document, "/predict", &json!({"inputs": "Zoë"})).await;
    asked.post(&mut document, INFER, &infer("Zoë")).await;
    asked.get(&mut document, "/health").await;
    full.stop();
    document.check_response("post", "/predict", waiting.await.unwrap().unwrap()).await;

    // Loading takes most of a second.
    let loading = Server::listening(&model_dir(), &[]);
    let asked = Asked::new(&loading);
    asked.post(&mut document, "/predict", &json!({"inputs": "Zoë"})).await;
    asked.post(&mut document, INFER, &infer("Zoë")).await;
    asked.post(&mut document, "/v2/repository/index", &json!({})).await;
    for path in ["/health", "/readyz", "/info", "/v2/health/ready", MODEL, MODEL_READY] {
        asked.get(&mut document, path).await;
    }

    let mut unseen: BTreeSet<_> = document.promised().difference(&document.seen).cloned().collect();
    for (method, path, status) in NOT_PROVOKED {
        assert!(
            unseen.remove(&(method.to_owned(), path.to_owned(), status.to_owned())),
            "{method} {path} {status}"
        );
    }
    assert_eq!(unseen, BTreeSet::new(), "documented, but this test saw none of it");
}

/// Sends this, and reads until the server closes: head and body.
fn exchange(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_document_of_a_model_shows_its_own_task_and_examples_that_work() {
    let tasks = [
        (model_dir(), "TokenClassification"),
        (other_model("sentiment"), "TextClassification"),
        (other_model("embedding"), "FeatureExtraction"),
        (other_model("image"), "ImageClassification"),
        (other_model("tensors"), "Tensors"),
    ];
    for (model, task) in tasks {
        let server = Server::of(&model, &[]);
        let mut document = Document::of(&server).await;
        let schemas = &document.text["components"]["schemas"];
        assert_eq!(schemas["PredictRequest"]["$ref"], format!("#/components/schemas/{task}Request"));
        assert_eq!(schemas["PredictAnswer"]["$ref"], format!("#/components/schemas/{task}Answer"));

        let request =
            document.text["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"].clone();
        let examples = request["examples"].as_object().unwrap().clone();
        assert_eq!(examples.len(), if task == "Tensors" { 1 } else { 3 }, "{task}");
        for (name, example) in examples {
            document.validate(&request["schema"], &example["value"], &name);
            let answer = server.predict(&example["value"]).await;
            assert_eq!(answer.status(), 200, "{name}");
            document.check_response("post", "/predict", answer).await;
        }
        let operation =
            document.text["paths"][INFER]["post"]["requestBody"]["content"]["application/json"].clone();
        let example = &operation["examples"]["JSON"]["value"];
        assert_eq!(example.is_null(), task == "ImageClassification", "{task}");
        if example.is_object() {
            document.validate(&operation["schema"], example, INFER);
            let (_, info) = server.get("/info").await;
            let path = INFER.replace("{name}", info["model"].as_str().unwrap());
            let answer = Asked::new(&server).request("post", &path).json(example).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{task}: {example}");
            document.check_response("post", INFER, answer).await;
        }

        let other = json!({"inputs": "a", "parameters": {"no_such": 1}});
        let valid =
            jsonschema::draft202012::new(&with_components(&request["schema"], &document.text)).unwrap();
        assert!(
            !valid.is_valid(&other) && !valid.is_valid(&json!({"inputs": 1})) && !valid.is_valid(&json!({}))
        );
    }
}

fn with_components(schema: &Value, document: &Value) -> Value {
    let mut root = schema.clone();
    root["components"] = document["components"].clone();
    root
}

#[tokio::test]
async fn the_page_and_its_files_come_from_the_server_itself() {
    let server = Server::listening(&model_dir(), &[]);
    let page = reqwest::get(format!("{}/docs", server.url)).await.unwrap();
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let html = page.text().await.unwrap();
    assert!(!html.contains("://"), "it refers to somewhere else: {html}");
    let links: Vec<&str> =
        html.split('"').filter(|part| part.starts_with("docs/") || *part == "openapi.json").collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        let url = format!("{}/{link}", server.url);
        let file = reqwest::get(&url).await.unwrap();
        assert_eq!(file.status(), 200, "{link}");
        let head = reqwest::Client::new().head(&url).send().await.unwrap();
        assert_eq!(
            (head.status().as_u16(), head.headers().get("content-type")),
            (200, file.headers().get("content-type"))
        );
    }
    assert_eq!(server.get("/docs/index.html").await.0, 404);
}
