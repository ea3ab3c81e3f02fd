use crate::worker::command;

#[tokio::test]
async fn wrong_flags_end_it_at_once_with_a_sentence() {
    for (flags, sentence) in [
        (&[][..], "no queue to work on; add --run 'QUEUE=COMMAND', --http 'QUEUE=URL', or a [[route]]"),
        (&["--run", "gzip"], "the `=` is missing; write QUEUE=COMMAND"),
        (&["--run", "q=x", "--server", "ftp://host"], "does not begin with http:// or https://"),
        (&["--run", "q=x", "--run", "q=y"], "queue `q` has two routes for all types"),
        (&["--http", "q="], "the URL for queue `q` is empty"),
        (&["--run", "q=x", "--max-jobs", "0"], "`0` is not a number from 1"),
        (
            &["--run", "q=x", "--cgroup", "/no/such/cgroup"],
            "make the folder in a cgroup file system, or use --cgroup auto",
        ),
    ] {
        let output = command().args(flags).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(stderr.contains(sentence), "{flags:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
