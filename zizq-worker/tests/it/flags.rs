use crate::worker::command;

#[tokio::test]
async fn wrong_flags_end_it_at_once_with_a_sentence() {
    for (flags, sentence) in [
        (&[][..], "no queue is given; add --run 'QUEUE=COMMAND', --http 'QUEUE=URL', or a [[route]]"),
        (&["--run", "gzip"], "write a queue and what to do with its jobs: QUEUE=COMMAND"),
        (&["--run", "q=x", "--server", "ftp://host"], "does not begin with http:// or https://"),
        (&["--run", "q=x", "--run", "q=y"], "queue `q` is given twice"),
    ] {
        let output = command().args(flags).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(stderr.contains(sentence), "{flags:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
