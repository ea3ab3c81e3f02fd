use super::*;

fn job(payload: &str) -> Input {
    let json = format!(
        r#"{{"id": "0000000000000000000000001", "type": "t", "queue": "q", "priority": 7, "attempts": 2, "ready_at": 5,
             "payload": {payload}, "lease": "000000000000000b"}}"#
    );
    Input::of(&serde_json::from_str(&json).unwrap()).unwrap()
}

fn render(template: &str, payload: &str) -> Result<String, String> {
    Template::parse(template).unwrap().render(&job(payload))
}

#[test]
fn placeholders_are_jq_over_the_job() {
    for (template, expected) in [
        ("plain } { text", "plain } { text"),
        ("{{ .id }}", "0000000000000000000000001"),
        ("{{.type}}/{{.queue}}/{{.priority}}/{{.attempt}}/{{.attempts}}/{{.ready_at}}", "t/q/7/3/2/5"),
        ("<{{ .payload.name }}>", "<it's \"a\" $(b)\n`c`>"),
        ("{{ .payload.n }}", "12345678901234567890123"),
        ("{{ .payload.list }}", "[1,2.50]"),
        ("{{ .payload.list | length }}", "2"),
        ("{{ {a: {b: 1}} }}", r#"{"a":{"b":1}}"#),
        (r#"{{ "}}" }}"#, "}}"),
        (r#"{{ "\"}}" }}"#, "\"}}"),
        (r#"{{ .payload.none // "x" }}"#, "x"),
    ] {
        let payload = r#"{"name": "it's \"a\" $(b)\n`c`", "n": 12345678901234567890123, "list": [1, 2.50]}"#;
        assert_eq!(render(template, payload).unwrap(), expected, "{template}");
    }
}

#[test]
fn what_the_payload_does_not_give_is_an_error() {
    for (template, sentence) in [
        ("{{ .payload.none }}", "{{ .payload.none }} gives null"),
        ("{{ .payload.list[] }}", "{{ .payload.list[] }} has 2 outputs where one is needed, "),
        ("a{{ empty }}", "{{ empty }} has 0 outputs"),
        ("{{ .payload.list.x }}", "{{ .payload.list.x }} fails: "),
        ("{{ error(\"no\") }}", "fails: \"no\""),
    ] {
        let error = render(template, r#"{"list": [1, 2]}"#).unwrap_err();
        assert!(format!("{error}, ").contains(sentence), "{template}: {error}");
    }
}

#[test]
fn an_argument_of_one_placeholder_may_be_many() {
    let all = |template: &str| {
        Template::parse(template).unwrap().render_all(&job(r#"{"files": ["a b", "c"], "none": []}"#)).unwrap()
    };
    assert_eq!(all("{{ .payload.files[] }}"), ["a b", "c"]);
    assert_eq!(all("{{ .payload.none[] }}"), [""; 0]);
    assert_eq!(all("x{{ .payload.files[0] }}"), ["xa b"]);
}

#[test]
fn what_goes_into_a_url_is_encoded() {
    let url = |template: &str| {
        Template::parse(template)
            .unwrap()
            .render_url(&job(r#"{"u": "http://h/a", "v": "a/b?c=ä&d"}"#))
            .unwrap()
    };
    assert_eq!(
        url("http://h/{{.payload.v}}?x={{.payload.v}}"),
        "http://h/a%2Fb%3Fc%3D%C3%A4%26d?x=a%2Fb%3Fc%3D%C3%A4%26d"
    );
    assert_eq!(url("{{.payload.u}}/{{.id}}"), "http://h/a/0000000000000000000000001");
}

#[test]
fn bad_templates_are_explained() {
    for (template, sentence) in [
        ("{{ .a", "a `{{` has no `}}` in `{{ .a`"),
        ("{{ }}", "a placeholder is empty"),
        ("{{ .a | nosuch }}", "`.a | nosuch` is no jq expression: there is no nosuch"),
        ("{{ .a | }}", "`.a |` is no jq expression: it does not follow the syntax"),
    ] {
        let error = Template::parse(template).unwrap_err();
        assert!(error.contains(sentence), "{template}: {error}");
    }
}
