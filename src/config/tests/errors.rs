//! What errors say, exactly.

use super::*;

#[test]
fn every_error_is_told_at_once_each_with_its_place() {
    let text = "\
[public]
  lisetn = \"0.0.0.0:8000\"
workers = 0

[hold]
  time = \"5 parsecs\"
idle_after = \"1m\"
[holt]
time = \"1m\"
[process.images.\"a:1\"]
comand = [\"a\"]
";
    let env = [("WAKEGATE_LOG_FORMAT", "yaml")];
    assert_eq!(
        errors_with(text, &env),
        "\
gateway.toml:2:3: [public] lisetn: unknown key (did you mean `listen`?)
gateway.toml:3:1: [public] workers: 0 is out of range (1 to 1024)
gateway.toml:6:3: [hold] time: \"5 parsecs\" is not a duration (try \"5m\")
gateway.toml:7:1: [hold] idle_after: unknown key (it is a key of [lifecycle])
gateway.toml:8:2: [holt]: unknown table (did you mean [hold]?)
gateway.toml:11:1: [process.images.\"a:1\"] comand: unknown key (did you mean `command`?)
WAKEGATE_LOG_FORMAT: \"yaml\" is none of \"text\", \"json\""
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_told_what_would_be_right() {
    for (table, line, message) in [
        ("hold", "time = 30", "30 has no unit (write \"30s\")"),
        (
            "hold",
            "time = \"30\"",
            "\"30\" has no unit (write \"30s\")",
        ),
        (
            "hold",
            "time = \"0s\"",
            "\"0s\" is out of range (1ms to 1h)",
        ),
        (
            "hold",
            "time = \"2h\"",
            "\"2h\" is out of range (1ms to 1h)",
        ),
        ("hold", "time = true", "true is not a duration (try \"5m\")"),
        (
            "hold",
            "queue_max = -1",
            "-1 is out of range (1 to 1000000)",
        ),
        (
            "hold",
            "queue_max = \"10\"",
            "\"10\" is text (write 10 without quotes)",
        ),
        (
            "hold",
            "queue_max = 1.5",
            "1.5 is not a whole number (try 100)",
        ),
        (
            "public",
            "head_bytes_max = 4096",
            "4096 is out of range (8KiB to 16MiB)",
        ),
        (
            "public",
            "head_bytes_max = \"big\"",
            "\"big\" is not a size (try \"64KiB\")",
        ),
        (
            "public",
            "body_bytes_max = -1",
            "-1 is out of range (1 to 1PiB)",
        ),
        (
            "public",
            "listen = 8000",
            "8000 is not an address to listen on (try \"127.0.0.1:8000\" or \"unix:/run/gateway.sock\")",
        ),
        (
            "public",
            "listen = \":8000\"",
            "\":8000\" is no complete address (write \"0.0.0.0:8000\")",
        ),
        (
            "public",
            "listen = \"localhost:80\"",
            "\"localhost:80\" is no complete address (write \"127.0.0.1:80\")",
        ),
        (
            "public",
            "listen = \"unix:\"",
            "\"unix:\" names no file (try \"unix:/run/gateway.sock\")",
        ),
        (
            "public",
            "trusted_proxies = \"::1\"",
            "\"::1\" is not a list (write [\"::1\"])",
        ),
        (
            "admin",
            "insecure = \"true\"",
            "\"true\" is text (write true without quotes)",
        ),
        ("admin", "insecure = 1", "1 is not true or false (try true)"),
        (
            "admin",
            "token = \"short\"",
            "has 5 characters; a token needs 16 or more (try: openssl rand -hex 32)",
        ),
        (
            "admin",
            "token = 1234567890123456",
            "is no text (write it in quotes)",
        ),
        (
            "runtime",
            "engine = \"dokcer\"",
            "\"dokcer\" is none of \"auto\", \"docker\", \"process\" (did you mean `docker`?)",
        ),
        (
            "runtime",
            "ownership_label = \"\"",
            "\"\" is not a label (try \"wakegate.enable=true\")",
        ),
        (
            "docker",
            "host = \"ssh://a\"",
            "\"ssh://a\": engines are not reached by ssh:// here (use unix:///path or tcp://host:port)",
        ),
        (
            "docker",
            "host = \"/run/docker.sock\"",
            "\"/run/docker.sock\" is not an engine's address (try \"unix:///var/run/docker.sock\" or \"tcp://127.0.0.1:2375\")",
        ),
        (
            "traefik",
            "api = \"https://traefik\"",
            "\"https://traefik\": only http:// is spoken here (give it a private listener without TLS)",
        ),
        (
            "traefik",
            "api = \"traefik:8080\"",
            "\"traefik:8080\" is not an HTTP address (try \"http://127.0.0.1:8080\")",
        ),
        (
            "traefik",
            "api = \"http://traefik:99999\"",
            "\"http://traefik:99999\" is not an HTTP address (try \"http://127.0.0.1:8080\")",
        ),
        (
            "traefik",
            "api = \"http://me:secret@traefik\"",
            "a user's name or password in an address is not supported: nothing is sent along here (give it a private listener that asks for none)",
        ),
        ("spec", "cpus_max = 0", "0 is out of range (0.01 to 4096)"),
        (
            "spec",
            "cpus_max = nan",
            "NaN is out of range (0.01 to 4096)",
        ),
        (
            "log",
            "level = \"inof\"",
            "\"inof\" is not a level (did you mean `info`?)",
        ),
        (
            "log",
            "level = \"hyper\"",
            "\"hyper\" is not a level (for a module write \"hyper=debug\")",
        ),
        (
            "log",
            "level = \"hyper=loud\"",
            "\"hyper=loud\" is not a log filter (try \"info\" or \"wakegate=debug\")",
        ),
        (
            "log",
            "level = \"A¡=\"",
            "\"A¡=\" is not a log filter (try \"info\" or \"wakegate=debug\")",
        ),
    ] {
        assert_eq!(complaint(table, line), message, "[{table}] {line}");
    }
}

#[test]
fn an_item_of_a_list_is_told_at_its_own_line() {
    let text = "[admin]\nhosts = [\n  \"a.example\",\n  \"b.example:80\",\n  \"*\",\n]\n";
    assert_eq!(
        errors(text),
        "\
gateway.toml:4:3: [admin] hosts: \"b.example:80\" has a port (write \"b.example\")
gateway.toml:5:3: [admin] hosts: \"*\" is not a host's name (try \"gateway.example.com\")"
    );
    let text = "[spec]\nallow_binds = [\"srv\", \"/a/../b\"]\nallow_capabilities = [\"net_admin\"]";
    assert_eq!(
        errors(text),
        "\
gateway.toml:2:16: [spec] allow_binds: \"srv\" is not an absolute path (try \"/srv/data\")
gateway.toml:2:23: [spec] allow_binds: \"/a/../b\" is not an absolute path (try \"/srv/data\")
gateway.toml:3:23: [spec] allow_capabilities: \"net_admin\" is written in capitals (write \"NET_ADMIN\")"
    );
}

#[test]
fn syntax_errors_hide_nothing_that_can_still_be_trusted() {
    assert_eq!(
        errors("[hold]\ntime = 5m\nqueue_max = 0\nqueue_max = 1\n[log]\nlevel =\nformat = \"x\"\n"),
        "\
gateway.toml:2:8: 5m has to be quoted (write \"5m\")
gateway.toml:3:1: [hold] queue_max: 0 is out of range (1 to 1000000)
gateway.toml:4:1: queue_max is set a second time
gateway.toml:6:8: a value is missing
gateway.toml:7:1: [log] format: \"x\" is none of \"text\", \"json\""
    );
    // After a broken header nobody knows whose the keys are.
    assert_eq!(
        errors("[hold]\ntime = 5\n[log\nlevel = \"x y\"\n"),
        "\
gateway.toml:2:1: [hold] time: 5 has no unit (write \"5s\")
gateway.toml:3:5: not TOML: unclosed table, expected `]`"
    );
    assert_eq!(
        errors("[hold]\n[hold]\n"),
        "gateway.toml:2:2: hold is set a second time"
    );
}

#[test]
fn what_stands_in_no_table_or_is_none_is_told_where_it_belongs() {
    assert_eq!(
        errors("listen = \"0.0.0.0:1\"\nhold = 5\nbanana = 1\n[[log]]\n[pear]\n"),
        "\
gateway.toml:1:1: listen: stands in no table (did you mean [public]?)
gateway.toml:2:1: hold is a table (write [hold] on a line of its own)
gateway.toml:3:1: banana: unknown key, and in no table (there are [public], [admin], [runtime], \
[docker], [process], [scripts], [vars], [hold], [lifecycle], [upstream], [traefik], [spec], [apps], [log])
gateway.toml:4:3: log is a table (write [log] on a line of its own)
gateway.toml:5:2: [pear]: unknown table (there are [public], [admin], [runtime], [docker], \
[process], [scripts], [vars], [hold], [lifecycle], [upstream], [traefik], [spec], [apps], [log])"
    );
    assert_eq!(
        errors("hold = 5\n[hold]\n"),
        "gateway.toml:2:2: hold is set a second time"
    );
    assert_eq!(
        errors("[hold]\npear = 1"),
        "gateway.toml:2:1: [hold] pear: unknown key (there are time, queue_max, total_max)"
    );
}

#[test]
fn an_empty_command_is_told_beside_another_keys_error() {
    let typed = "[process.images.\"command:1\"]\ncommand = []\nport = 99999\n";
    let errors = parse(typed, "gateway.toml", &|_| None)
        .unwrap_err()
        .to_string();
    assert!(errors.contains("command names no program"), "{errors}");
    assert!(errors.contains("port: "), "{errors}");
}

#[test]
fn an_image_needs_a_command_and_known_keys() {
    let text = "\
[process.images.\"a:1\"]
port = 80
[process.images.\"b:1\"]
command = \"b\"
port = 0
envs = { N = 1 }
";
    assert_eq!(
        errors(text),
        "\
gateway.toml:1:17: [process.images.\"a:1\"]: command names no program (try command = [\"/srv/app\", \"--flag\"])
gateway.toml:4:1: [process.images.\"b:1\"] command: \"b\" is not a list (write [\"b\"])
gateway.toml:5:1: [process.images.\"b:1\"] port: 0 is out of range (1 to 65535)
gateway.toml:6:10: [process.images.\"b:1\"] envs: N: 1 is not text (try \"…\" in quotes)"
    );
    assert_eq!(
        errors("[process]\nimages = 1"),
        "gateway.toml:2:1: [process] images: is a table (write [process.images.\"name:tag\"])"
    );
}

#[test]
fn a_secret_stands_in_no_error_and_no_debug_output() {
    let told = errors("[admin]\ntoken = \"hunter2\"\n[hold]\ntime = 1");
    assert!(!told.contains("hunter2"), "{told}");
    let told = errors("[admin]\ntoken = hunter2\n");
    assert_eq!(told, "gateway.toml:2:9: the value has to be quoted");
    let config = read("[admin]\ntoken = \"0123456789abcdef\"");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("none.toml"), &no_env).unwrap_err();
    assert!(missing.is_file_missing());
    assert!(
        missing
            .to_string()
            .contains("none.toml: there is no such file. Every key")
    );
    let is_folder = load(folder.path(), &no_env).unwrap_err();
    assert!(!is_folder.is_file_missing());
    assert!(
        is_folder
            .to_string()
            .contains("cannot be read: Is a directory")
    );
    let latin = folder.path().join("latin.toml");
    std::fs::write(&latin, b"# caf\xe9\n").unwrap();
    let not_text = load(&latin, &no_env).unwrap_err();
    assert!(not_text.to_string().contains("UTF-8"), "{not_text}");
}

#[test]
fn columns_count_characters_and_a_byte_order_mark_is_none() {
    assert_eq!(
        errors("\u{feff}hold = { \"é\" = 1, x = 2 }"),
        "\
gateway.toml:1:10: [hold] é: unknown key (there are time, queue_max, total_max)
gateway.toml:1:19: [hold] x: unknown key (there are time, queue_max, total_max)"
    );
}
