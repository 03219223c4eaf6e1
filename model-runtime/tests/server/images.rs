//! How images come in, and what is refused: nothing that a client sends as an image may cost more than its own request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use serde_json::{Value, json};

use crate::expected::{TOLERANCE, difference, rows};
use crate::support::{Server, copy_of, other_model, program};

/// The first image of the expected answers, in Base64.
fn cat() -> String {
    rows("image").swap_remove(0).inputs.as_str().unwrap().to_owned()
}

async fn send(server: &Server, content_type: &str, body: Vec<u8>) -> Response {
    let request = reqwest::Client::new().post(format!("{}/predict", server.url));
    request.header("content-type", content_type).body(body).send().await.unwrap()
}

async fn refusal(response: Response, status: u16) -> String {
    let found = response.status().as_u16();
    let body: Value = response.json().await.expect("errors are JSON");
    assert_eq!(found, status, "{body}");
    body["error"].as_str().unwrap().to_owned()
}

/// A PNG that says it is so large, with the beginning of its pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let file = STANDARD.decode(
        // One white pixel.
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg==",
    );
    let mut file = file.unwrap();
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = !file[12..29].iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    file[29..33].copy_from_slice(&crc.to_be_bytes());
    file
}

#[tokio::test]
async fn an_image_is_the_same_in_json_as_a_url_and_as_the_body() {
    let server = Server::of(&other_model("image"), &[]);
    let cat = cat();
    let plain: Value = server.predict(&json!({"inputs": cat})).await.json().await.unwrap();
    assert_eq!(plain.as_array().unwrap().len(), 5, "{plain}");
    let url = format!("data:image/jpeg;base64,{cat}");
    let several: Value = server.predict(&json!({"inputs": [url, cat]})).await.json().await.unwrap();
    assert!(difference(&several, &json!([plain, plain]), "as a URL, in a list") < TOLERANCE);
    // Told by its first bytes, whichever type the client names.
    for content_type in ["image/jpeg", "image/png", "image/webp; q=1"] {
        let raw: Value =
            send(&server, content_type, STANDARD.decode(&cat).unwrap()).await.json().await.unwrap();
        assert!(difference(&raw, &plain, content_type) < TOLERANCE);
    }
    // What transformers cannot answer: it takes a height of 1 or 3 for the channels.
    for (width, height) in [(1, 1), (64, 3)] {
        let image = ::image::RgbImage::from_pixel(width, height, ::image::Rgb([200, 10, 10]));
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, ::image::ImageFormat::Png).unwrap();
        assert_eq!(send(&server, "image/png", file.into_inner()).await.status(), 200, "{width} x {height}");
    }
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_the_reason_and_the_next_request_is_served() {
    let server = Server::of(&other_model("image"), &[]);
    let cat = STANDARD.decode(cat()).unwrap();
    let mut damaged = cat.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    for (file, says) in [
        (Vec::new(), "input 0 is empty"),
        (b"GIF89a....".to_vec(), "input 0 is no JPEG, PNG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "no JPEG, PNG or WebP"),
        (cat[..cat.len() / 2].to_vec(), "input 0 is no JPEG image that can be decoded"),
        (damaged, "no JPEG image that can be decoded"),
        (png(100_000, 100_000), "input 0 is 100000 x 100000 pixels"),
        (png(5_001, 5_000), "25000000 in all"),
        (png(4_000, 4_000), "no PNG image that can be decoded"),
    ] {
        let message = refusal(send(&server, "image/png", file.clone()).await, 422).await;
        assert!(message.contains(says), "{says}: {message}");
        let in_json = json!({"inputs": STANDARD.encode(file)});
        assert_eq!(refusal(server.predict(&in_json).await, 422).await, message);
    }
    for (inputs, says) in [
        (json!("https://example.org/cat.jpg"), "input 0 is an address, and this server fetches nothing"),
        (json!(["not base64!"]), "input 0 is no image in Base64"),
        (json!([STANDARD.encode(&cat), "AAAA"]), "input 1 is no JPEG, PNG or WebP image"),
        (json!([]), "empty list"),
    ] {
        let message = refusal(server.predict(&json!({"inputs": inputs})).await, 422).await;
        assert!(message.contains(says), "{message}");
    }
    let asked = json!({"inputs": "", "parameters": {"truncate": true}});
    assert!(refusal(server.predict(&asked).await, 422).await.contains("top_k and function_to_apply"));
    for other in ["image/gif", "text/plain", "application/octet-stream"] {
        let message = refusal(send(&server, other, cat.clone()).await, 415).await;
        assert!(message.contains("image/webp") && message.contains(other), "{message}");
    }
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head =
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: 50000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("10485760 bytes"), "{answer}");

    assert_eq!(send(&server, "image/jpeg", cat).await.status(), 200);
    let (status, health) = server.get("/health").await;
    assert_eq!((status, &health["status"], &health["last_error"]), (200, &json!("ok"), &Value::Null));
}

#[test]
fn check_runs_the_models_own_images_and_says_which_one_is_none() {
    let copy = copy_of(&other_model("image"));
    std::fs::write(copy.path().join("cat.jpg"), STANDARD.decode(cat()).unwrap()).unwrap();
    let check = |examples: &str| {
        std::fs::remove_file(copy.path().join("runtime.toml")).unwrap();
        std::fs::write(copy.path().join("runtime.toml"), format!("examples = {examples}\n")).unwrap();
        program().args(["check", "--model"]).arg(copy.path()).output().unwrap()
    };
    let output = check(r#"["cat.jpg"]"#);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("cat.jpg") && text.contains("Egyptian cat"), "{text}");
    let output = check(r#"["cat.jpg", "config.json"]"#);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && text.contains("config.json: the file is no JPEG"), "{text}");
}
