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
        ("{{ error(\"no\") }}", "fails: no"),
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
        ("{{ .a", "`{{ .a` has a `{{` without `}}`"),
        ("{{ }}", "`{{ }}` has an empty placeholder"),
        ("{{ .id | nosuch }}", "{{ .id | nosuch }}: `nosuch/0` is not defined in jq 1.7"),
        ("{{ .id | }}", "{{ .id | }}: a term is expected, not the end of the expression"),
    ] {
        let error = Template::parse(template).unwrap_err();
        assert!(error.contains(sentence), "{template}: {error}");
    }
}

#[test]
fn a_member_that_no_job_has_is_refused_with_what_was_meant() {
    for (template, meant) in [
        ("{{ .image }}", "a job has no member `image`; did you mean `.payload.image`?"),
        ("{{ .paylod.image }}", "did you mean `.payload`?"),
        ("{{ .Id }}", "did you mean `.id`?"),
        ("a{{ .user.name // \"x\" }}", "did you mean `.payload.user`?"),
        ("{{ \"\\(.to): \\(.id)\" }}", "did you mean `.payload.to`?"),
    ] {
        let error = Template::parse(template).unwrap_err();
        assert!(error.contains(meant), "{template}: {error}");
    }
    for template in
        ["{{ .payload.image }}", "{{ .payload | .image }}", "{{ .attempt + 1 }}", "{{ [.payload.a[]?] }}"]
    {
        assert!(Template::parse(template).is_ok(), "{template}");
    }
}

#[test]
fn a_template_that_ends_or_reads_is_refused() {
    for expression in [
        "halt",
        "\"x\" | halt_error",
        "input",
        "inputs",
        "debug",
        "stderr",
        "env.HOME",
        "$ENV.HOME",
        "input_filename",
    ] {
        let error = Template::parse(&format!("{{{{ {expression} }}}}")).unwrap_err();
        assert!(error.contains("is not known here"), "{expression}: {error}");
    }
}

#[test]
fn a_payload_makes_no_dot_segment_of_a_url() {
    for (template, payload, expected) in [
        ("http://h/a/{{.payload.v}}/b", "..", None),
        ("http://h/a/{{.payload.v}}", ".", None),
        ("http://h/a/.{{.payload.v}}", ".", None),
        ("http://h/a/{{.payload.v}}{{.payload.v}}/b", ".", None),
        ("http://h/../{{.payload.v}}", "x", Some("http://h/../x")),
        ("http://h/{{.payload.v}}", "...", Some("http://h/...")),
        ("http://h/{{.payload.v}}", "../x", Some("http://h/..%2Fx")),
        ("http://h/?x={{.payload.v}}", "..", Some("http://h/?x=..")),
        ("http://h/a.{{.payload.v}}", ".", Some("http://h/a..")),
    ] {
        let payload = serde_json::json!({"v": payload}).to_string();
        let url = Template::parse(template).unwrap().render_url(&job(&payload));
        match expected {
            Some(expected) => assert_eq!(url.as_deref(), Ok(expected), "{template}"),
            None => assert!(url.unwrap_err().contains("has a segment `.` or `..`"), "{template}"),
        }
    }
}

#[test]
fn a_payload_that_nests_deeply_is_an_error() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Input::read(deep.as_bytes()).unwrap_err().contains("nests too deeply"));
}

#[test]
fn an_argument_in_the_place_of_code_is_refused() {
    let parse = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Template::parse_command(&words)
    };
    for words in [
        &["sh", "-c", "echo {{ .payload.x }}"][..],
        &["/bin/bash", "-ec", "{{ .payload.x }}"],
        &["env", "sh", "-c", "{{ .payload.x }}"],
        &["sed", "s/a/{{ .payload.x }}/"],
        &["perl", "-e", "{{ .payload.x }}"],
        &["ssh", "host", "{{ .payload.x }}"],
    ] {
        assert!(
            parse(words).unwrap_err().contains("runs as code; pass the value as an argument"),
            "{words:?}"
        );
    }
    for words in [
        &["sh", "-c", "printf %s \"$1\"", "sh", "{{ .payload.x }}"][..],
        &["echo", "{{ .payload.x }}"],
        &["sed", "-e", "s/a/b/", "{{ .payload.x }}"],
        &["./run", "--", "{{ .payload.x }}"],
    ] {
        assert!(parse(words).is_ok(), "{words:?}");
    }
}
