//! Variables against the file, and parts against each other.

use std::time::Duration;

use std::ffi::OsString;

use super::*;

#[test]
fn a_variable_goes_before_the_file_and_an_empty_one_is_not_set() {
    let text = "[hold]\ntime = \"1m\"\nqueue_max = 5\n[admin]\nhosts = [\"a\"]";
    let env = [
        ("WAKEGATE_HOLD_TIME", "30s"),
        ("WAKEGATE_HOLD_QUEUE_MAX", ""),
        ("WAKEGATE_ADMIN_HOSTS", "b, c,"),
        ("WAKEGATE_ADMIN_INSECURE", "true"),
        ("WAKEGATE_PUBLIC_LISTEN", "127.0.0.1:1"),
        ("WAKEGATE_SPEC_CPUS_MAX", "0.5"),
        ("WAKEGATE_SPEC_MEMORY_MAX", "64MiB"),
    ];
    let config = read_with(text, &env).unwrap();
    assert_eq!(config.hold.time, Duration::from_secs(30));
    assert_eq!(config.hold.queue_max, 5);
    assert_eq!(config.admin.hosts, ["b", "c"]);
    assert!(config.admin.insecure);
    assert_eq!(
        config.public.listen,
        Listen::Tcp(([127, 0, 0, 1], 1).into())
    );
    assert_eq!(config.spec.cpus_max, Some(0.5));
    assert_eq!(config.spec.memory_max, Some(64 << 20));
}

#[test]
fn the_engines_own_variable_comes_after_the_file_and_before_the_default() {
    let docker_host = ("DOCKER_HOST", "tcp://10.0.0.1:2375");
    let host = |text: &str, env: &[(&str, &str)]| read_with(text, env).unwrap().docker.host;
    assert_eq!(host("", &[]), "unix:///var/run/docker.sock");
    assert_eq!(host("", &[docker_host]), "tcp://10.0.0.1:2375");
    let text = "[docker]\nhost = \"unix:///a\"";
    assert_eq!(host(text, &[docker_host]), "unix:///a");
    let ours = ("WAKEGATE_DOCKER_HOST", "unix:///b");
    assert_eq!(host(text, &[docker_host, ours]), "unix:///b");
    let ssh = [("DOCKER_HOST", "ssh://a")];
    assert_eq!(
        errors_with("", &ssh),
        "DOCKER_HOST: \"ssh://a\": engines are not reached by ssh:// here \
         (use unix:///path or tcp://host:port)"
    );
    // Who does not use Docker is not bothered with its variables.
    assert!(read_with("[runtime]\nengine = \"process\"", &ssh).is_ok());
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    let names = [
        "WAKEGATE_HOLD_TIMES",
        "WAKEGATE_PROCESS_IMAGES_A",
        "WAKEGATE_APPS_SHOP_KEEP",
        "WAKEGATE_X",
        "WAKEGATE_REQUIRE",
        "WAKEGATE_CONFIG",
        "WAKEGATE_HOLD_TIME",
        "PATH",
    ];
    let told: Vec<String> = unknown_variables(names)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "WAKEGATE_APPS_SHOP_KEEP: applications are only set in gateway.toml",
            "WAKEGATE_HOLD_TIMES: unknown variable (did you mean `WAKEGATE_HOLD_TIME`?)",
            "WAKEGATE_PROCESS_IMAGES_A: images of the process runtime are only set in gateway.toml",
            "WAKEGATE_X: unknown variable",
        ]
    );
}

#[test]
fn an_admin_listener_that_others_reach_needs_a_token_or_a_word() {
    let exposed = "[admin]\nlisten = \"0.0.0.0:8008\"\n";
    assert_eq!(
        errors(exposed),
        "gateway.toml:2:1: [admin] listen: 0.0.0.0:8008 can be reached from other machines and \
         there is no token: set token_file (or token, or WAKEGATE_ADMIN_TOKEN), or listen on \
         127.0.0.1:8008 or unix:/path, or write insecure = true to let everyone in"
    );
    let env = [("WAKEGATE_ADMIN_LISTEN", "[::]:9")];
    assert!(errors_with("", &env).starts_with("WAKEGATE_ADMIN_LISTEN: [::]:9 can be reached"));
    // The token's own error is enough.
    assert_eq!(
        errors(&format!("{exposed}token = \"a\"")).lines().count(),
        1
    );
    for way_out in ["insecure = true", "token = \"0123456789abcdef\""] {
        assert!(
            read_with(&format!("{exposed}{way_out}"), &[]).is_ok(),
            "{way_out}"
        );
    }
    assert!(read_with(exposed, &[("WAKEGATE_ADMIN_TOKEN", "0123456789abcdef")]).is_ok());
    // Compose makes an empty variable of one that is not set: that is no token.
    assert!(read_with(exposed, &[("WAKEGATE_ADMIN_TOKEN", "")]).is_err());
    for private in [
        "127.8.8.8:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "unix:/run/a",
    ] {
        let text = format!("[admin]\nlisten = \"{private}\"");
        assert!(read_with(&text, &[]).is_ok(), "{private}");
    }
}

#[test]
fn a_token_file_is_read_and_a_bad_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(folder.path().join("good"), "  0123456789abcdef\n").unwrap();
    std::fs::write(folder.path().join("short"), "abc\n").unwrap();
    std::fs::write(folder.path().join("large"), "x".repeat(5_000)).unwrap();
    let load_with = |text: &str, env: &dyn Fn(&str) -> Option<String>| {
        std::fs::write(&file, text).unwrap();
        load(&file, env)
    };
    let exposed = "[admin]\nlisten = \"0.0.0.0:8008\"\ntoken_file = ";
    let config = load_with(&format!("{exposed}\"good\""), &no_env).unwrap();
    assert_eq!(
        config.admin.token,
        Some(Secret("0123456789abcdef".to_owned()))
    );

    let at = folder.path().display().to_string();
    let place = format!("{at}/gateway.toml:3:1: [admin] token_file: ");
    for (name, message) in [
        (
            "short",
            format!(
                "the token in {at}/short has 3 characters; a token needs 16 or more (try: openssl rand -hex 32)"
            ),
        ),
        (
            "large",
            format!("{at}/large has more than 4096 bytes, so it is no token"),
        ),
        (
            "none",
            format!("{at}/none cannot be read: No such file or directory (os error 2)"),
        ),
    ] {
        let errors = load_with(&format!("{exposed}\"{name}\""), &no_env).unwrap_err();
        assert_eq!(errors.to_string(), format!("{place}{message}"));
    }

    let both = format!("{exposed}\"good\"\ntoken = \"fedcba9876543210\"");
    assert_eq!(
        load_with(&both, &no_env).unwrap_err().to_string(),
        format!("{place}is set, and so is token; only one of them can be the token")
    );
    // From different places the environment's goes before the file's, whichever it is.
    let token_variable =
        |name: &str| (name == "WAKEGATE_ADMIN_TOKEN").then(|| "fedcba9876543210".to_owned());
    let config = load_with(&format!("{exposed}\"none\""), &token_variable).unwrap();
    assert_eq!(
        config.admin.token,
        Some(Secret("fedcba9876543210".to_owned()))
    );
    let file_variable =
        |name: &str| (name == "WAKEGATE_ADMIN_TOKEN_FILE").then(|| "good".to_owned());
    let config = load_with("[admin]\ntoken = \"fedcba9876543210\"", &file_variable).unwrap();
    assert_eq!(
        config.admin.token,
        Some(Secret("0123456789abcdef".to_owned()))
    );
}

#[test]
fn parts_that_do_not_go_together_are_told_at_the_key_that_was_set() {
    for (text, message) in [
        (
            "[public]\nlisten = \"127.0.0.1:8008\"",
            "gateway.toml:2:1: [public] listen: the public and the admin listener have the same address (give one another port)",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8000\"",
            "gateway.toml:2:1: [admin] listen: the public and the admin listener have the same address (give one another port)",
        ),
        (
            "[lifecycle]\nbackoff_max = \"500ms\"",
            "gateway.toml:2:1: [lifecycle] backoff_max: backoff_min (1s) is above backoff_max (500ms)",
        ),
        (
            "[hold]\nqueue_max = 20000",
            "gateway.toml:2:1: [hold] queue_max: queue_max (20000) is above total_max (10000)",
        ),
    ] {
        assert_eq!(errors(text), message);
    }
    let any_port = "[public]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"";
    assert!(read_with(any_port, &[]).is_ok());
    // The error of a part is enough.
    let text = "[lifecycle]\nbackoff_max = \"500ms\"\nbackoff_min = 5";
    assert_eq!(errors(text).lines().count(), 1);
}

#[test]
fn of_an_environment_only_the_gateways_part_is_read() {
    use std::os::unix::ffi::OsStringExt as _;
    let variable = |name: &str, value: &[u8]| (name.into(), OsString::from_vec(value.to_vec()));
    let environment = env::Environment::new([
        variable("PATH", b"/bin"),
        variable("DOCKER_HOST", b"tcp://a:1"),
        variable("WAKEGATE_HOLD_TIME", b"5s"),
        variable("WAKEGATE_HOLD_TIEM", b"5s"),
        variable("WAKEGATE_LOG_LEVEL", b"\xff"),
        variable("OTHER", b"\xff"),
    ]);
    let is_there = |name: &str| environment.get(name).is_some();
    assert!(is_there("DOCKER_HOST") && is_there("WAKEGATE_HOLD_TIME"));
    assert!(!is_there("WAKEGATE_LOG_LEVEL") && !is_there("NONE"));
    let errors = environment.into_errors();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "WAKEGATE_LOG_LEVEL: is not UTF-8",
            "WAKEGATE_HOLD_TIEM: unknown variable (did you mean `WAKEGATE_HOLD_TIME`?)",
        ]
    );
}
