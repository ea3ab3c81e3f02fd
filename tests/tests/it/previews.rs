//! How much of the contents of jobs a look shows.

use protocol::media::Format;
use serde_json::{Value, json};
use tests::{Http, Server, Wire, id};

const FORMATS: [Wire; 2] =
    [Wire { format: Format::Json, http: Http::One }, Wire { format: Format::MessagePack, http: Http::Two }];

#[tokio::test]
async fn contents_are_shown_in_full_in_part_or_not_at_all() {
    let server = Server::with(["--default-completed-job-retention", "1h"]).await;
    for wire in FORMATS {
        let client = server.client_as(wire);
        let payload = json!({"text": "äöü€".repeat(2_000), "n": 1.0});
        let job = json!({"queue": "q", "type": "t", "payload": payload});
        let job = client.enqueue(&job).await;
        let text = payload.to_string();
        let length = |value: &Value| match wire.format {
            Format::Json => value.to_string().len(),
            Format::MessagePack => rmp_serde::to_vec_named(value).unwrap().len(),
        };
        let one = async |query: &str| client.get(&format!("/jobs/{}?{query}", id(&job))).await.expect(200);
        for status in ["ready", "in_flight", "completed"] {
            let result = (status == "completed").then(|| json!(["r".repeat(3_000)]));
            match status {
                "in_flight" => drop(client.poll_one("q").await),
                "completed" => {
                    let done =
                        client.post(&format!("/jobs/{}/success", id(&job)), &json!({"result": result}));
                    done.await.expect_nothing();
                }
                _ => {}
            }
            let full = one("").await;
            assert_eq!((&full["payload"], &full["status"]), (&payload, &json!(status)));
            assert_eq!(one("payload=full").await, full);
            for (query, bytes) in [
                ("payload=none", None),
                ("payload=preview", Some(200)),
                ("payload=preview&preview_bytes=1", Some(1)),
                ("payload=preview&preview_bytes=4096", Some(4_096)),
            ] {
                let mut expected = full.clone();
                let members = expected.as_object_mut().unwrap();
                let mut shorten = |name: &str, value: &Value| {
                    members.remove(name);
                    members.insert(format!("{name}_bytes"), json!(length(value)));
                    if let Some(bytes) = bytes {
                        let text = value.to_string();
                        let preview = &text[..text.floor_char_boundary(bytes)];
                        members.insert(format!("{name}_preview"), json!(preview));
                    }
                };
                shorten("payload", &payload);
                result.iter().for_each(|result| shorten("result", result));
                assert_eq!(one(query).await, expected, "{status} {query}");
                let page = client.get(&format!("/jobs?{query}")).await.expect(200);
                assert_eq!(page["jobs"], json!([expected]), "{status} {query}");
            }
        }
        assert!(text.len() > 4_096);
        client.poke("/reset").await.expect_nothing();
    }
}

#[tokio::test]
async fn a_page_of_previews_is_small_whatever_the_payloads() {
    let server = Server::with(["--enqueue-commit-mode", "buffered"]).await;
    // Each quotation mark takes two bytes as text.
    for payload in [json!("\"".repeat(100_000)), json!("x".repeat(900_000)), json!(vec![json!([]); 200])] {
        for wire in FORMATS {
            let client = server.client_as(wire);
            for _ in 0..5 {
                let job = json!({"queue": "q", "type": "t", "payload": payload});
                client.enqueue_all((0..10).map(|_| job.clone())).await;
            }
            let page = client.get("/jobs?payload=preview").await;
            assert!(page.body.len() <= 30_000, "{} bytes", page.body.len());
            assert_eq!(
                page.expect(200)["jobs"].as_array().unwrap().len(),
                50,
                "payloads do not end the page"
            );
            client.poke("/reset").await.expect_nothing();
        }
    }
}

#[tokio::test]
async fn parameters_about_contents_are_checked_and_kept_in_links() {
    let server = Server::start().await;
    let client = server.client();
    let job = client.add("q").await;
    client.add("q").await;
    for path in ["/jobs".to_owned(), format!("/jobs/{}", id(&job))] {
        for (query, names) in [
            ("payload=some", "none of full, preview, none"),
            ("payload=preview&preview_bytes=0", "preview_bytes"),
            ("payload=preview&preview_bytes=4097", "preview_bytes"),
            ("preview_bytes=10", "payload=preview"),
            ("payload=none&preview_bytes=10", "payload=preview"),
        ] {
            client.get(&format!("{path}?{query}")).await.expect_refusal(400, names);
        }
    }
    for (query, kept) in [
        ("payload=preview", "&payload=preview&preview_bytes=200"),
        ("payload=preview&preview_bytes=7", "&payload=preview&preview_bytes=7"),
        ("payload=none", "&payload=none"),
    ] {
        let page = client.get(&format!("/jobs?limit=1&{query}")).await.expect(200);
        let next = page["pages"]["next"].as_str().unwrap();
        assert!(next.ends_with(kept), "{next}");
        let page = client.get(next).await.expect(200);
        assert_eq!(page["jobs"][0]["payload_bytes"], 4, "null: {page}");
    }
    let page = client.get("/jobs?limit=1&payload=full").await.expect(200);
    assert!(page["pages"]["next"].as_str().unwrap().ends_with("&limit=1"), "{page}");
}
