//! Whatever is in a payload, it is data to a command.

use serde_json::json;

use crate::fake::Server;
use crate::worker::{ConfigFile, id, job, lease};

/// What people try, and what only happens.
const NASTY: [&str; 12] = [
    "plain",
    "two words",
    "it's",
    "\"quoted\" and 'quoted'",
    "line\nline\n\nline",
    "$(touch HERE) `touch HERE`",
    "; touch HERE; #",
    "\" ; touch HERE ; \"",
    "' ; touch HERE ; '",
    "${IFS}$HOME\\",
    "*?[a-z] ~ !! && || > HERE",
    "-rf --help",
];

#[tokio::test]
async fn a_payload_is_never_code() {
    let folder = tempfile::tempdir().unwrap();
    let (here, out) = (folder.path().join("here"), folder.path().join("out"));
    for run in [
        "run = '''printf %s {{ .payload }} > OUT'''",
        "run = '''x=\"<{{ .payload }}>\"; x=${x#<}; printf %s \"${x%>}\" > OUT'''",
        "run = '''cat > OUT <<END\n{{ .payload }}\nEND'''",
        "run = ['sh', '-c', 'printf %s \"$1\" > OUT', 'sh', '{{ .payload }}']",
        "env = {X = '{{ .payload }}'}\nrun = '''printf %s \"$X\" > OUT'''",
    ] {
        let file = ConfigFile::new(&format!(
            "[[route]]\nqueue = 'q'\n{}\n",
            run.replace("OUT", out.to_str().unwrap())
        ));
        let mut server = Server::start().await;
        let worker = file.start(&server);
        let mut stream = server.stream().await;
        stream.hello("s", false).await;
        for (n, text) in (1..).zip(NASTY) {
            let text = text.replace("HERE", here.to_str().unwrap());
            stream.job(&format!("s:{n}"), &job(n, n, json!(text))).await;
            assert_eq!(server.success().await, [(id(n), lease(n))], "{run}: {text}");
            assert!(!here.exists(), "{run}: {text}");
            let written = std::fs::read_to_string(&out).unwrap();
            match run.contains("<<END") {
                // In a here-document the quotes stay.
                true => assert_eq!(written, format!("\"{text}\"\n")),
                false => assert_eq!(written, text, "{run}"),
            }
        }
        worker.stop(&mut server).await;
    }
}
