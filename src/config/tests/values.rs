//! What each key means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(read(""), Config::default());
    assert_eq!(read("[hold]\n[log]\n"), Config::default());
}

#[test]
fn every_key_reaches_its_place() {
    let config = read(
        r#"
        [public]
        listen = "[::1]:81"
        workers = 3
        trusted_proxies = ["10.0.0.0/8", "::1"]
        head_timeout = "1m30s"
        idle_timeout = "3m"
        head_bytes_max = 0x4000
        headers_max = 50
        body_bytes_max = "1.5 MB"
        connections_max = 1_000
        [admin]
        listen = "unix:run/admin.sock"
        token = "0123456789abcdef"
        insecure = true
        hosts = ["Gateway.example", "[::2]"]
        [runtime]
        engine = "process"
        ownership_label = "mine"
        [docker]
        host = "tcp://engine:2375"
        network = "net"
        timeout = "5s"
        [process]
        dir = "/var/lib/p"
        [process.images."a:1"]
        command = ["./a", " b"]
        port = 8080
        envs = { A = "1" }
        [scripts]
        dir = "s"
        watch = false
        shadow = "hold"
        shadow_requests_max = 7
        rollback_failures_max = 0.5
        operations_max = 1000
        cpu_time_max = "20ms"
        load_cpu_time_max = "2s"
        call_depth_max = 5
        string_bytes_max = "1KiB"
        array_items_max = 6
        map_entries_max = 7
        memo_entries_max = 0
        time_zone = "America/New_York"
        [vars]
        A = 1
        B = ["x"]
        [hold]
        time = "2m"
        queue_max = 8
        total_max = 9
        [lifecycle]
        parallel_starts = 10
        start_timeout = "11s"
        ready_timeout = "12s"
        stop_timeout = "13s"
        idle_after = "14s"
        drain_timeout = "15s"
        backoff_min = "16s"
        backoff_max = "17s"
        [upstream]
        connect_timeout = "18s"
        response_timeout = "19s"
        idle_connections_max = 20
        idle_timeout = "21s"
        [traefik]
        api = "http://traefik:8080/base/"
        metrics = "http://[::1]:8082/metrics"
        route_timeout = "22s"
        settle_time = "0s"
        [spec]
        allow_binds = ["/srv"]
        allow_privileged = true
        allow_capabilities = ["NET_ADMIN"]
        allow_host_network = true
        allow_devices = ["/dev/kvm"]
        memory_max = "1GiB"
        cpus_max = 2
        pids_max = 100
        [apps.a]
        store = "s3://bucket/a/b/"
        store_endpoint = "https://s3.example:9000/"
        store_region = "eu-1"
        store_path_style = false
        journal = "j.json"
        registry = "registry.example:5000/team"
        registry_credentials = "c.json"
        keep = 0
        drain_timeout = "0s"
        health_path = "/up?a"
        health_timeout = "22s"
        rollback_failures_max = 0.25
        rollback_watch = "23s"
        rollback_requests_min = 24
        pause_max = "25s"
        network = "shop"
        [apps."B.1"]
        [log]
        format = "json"
        level = "warn,wakegate=trace"
        requests = true
        "#,
    );
    let s = Duration::from_secs;
    let app = |name: &str| AppName::new(name).unwrap();
    let expected = Config {
        public: Public {
            listen: Listen::Tcp("[::1]:81".parse().unwrap()),
            workers: 3,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            head_timeout: s(90),
            idle_timeout: s(180),
            head_bytes_max: 16_384,
            headers_max: 50,
            body_bytes_max: 1_500_000,
            connections_max: 1_000,
        },
        admin: Admin {
            listen: Listen::Unix(PathBuf::from("run/admin.sock")),
            token: Some(Secret("0123456789abcdef".to_owned())),
            insecure: true,
            hosts: vec!["gateway.example".to_owned(), "::2".to_owned()],
        },
        runtime: Runtime {
            engine: Engine::Process,
            ownership_label: ("mine".to_owned(), "true".to_owned()),
        },
        docker: Docker {
            host: "tcp://engine:2375".to_owned(),
            network: Some("net".to_owned()),
            timeout: s(5),
        },
        process: Process {
            dir: PathBuf::from("/var/lib/p"),
            images: BTreeMap::from([(
                "a:1".to_owned(),
                ProcessImage {
                    command: vec!["./a".to_owned(), " b".to_owned()],
                    port: Some(8080),
                    envs: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
                },
            )]),
        },
        scripts: Scripts {
            dir: PathBuf::from("s"),
            watch: false,
            given: Given {
                limits: ScriptLimits {
                    operations_max: 1_000,
                    cpu_time_max: Duration::from_millis(20),
                    load_cpu_time_max: s(2),
                    call_depth_max: 5,
                    string_bytes_max: 1_024,
                    array_items_max: 6,
                    map_entries_max: 7,
                    memo_entries_max: 0,
                },
                vars: BTreeMap::from([
                    ("A".to_owned(), Constant::Integer(1)),
                    (
                        "B".to_owned(),
                        Constant::List(vec![Constant::Text("x".to_owned())]),
                    ),
                ]),
                time_zone: jiff::tz::TimeZone::get("America/New_York").unwrap(),
                apps: Some(["a", "B.1"].map(app).into()),
            },
            shadow: Shadow::Hold,
            shadow_requests_max: 7,
            rollback_failures_max: Some(0.5),
        },
        hold: Hold {
            time: s(120),
            queue_max: 8,
            total_max: 9,
        },
        lifecycle: Lifecycle {
            parallel_starts: 10,
            start_timeout: s(11),
            ready_timeout: s(12),
            stop_timeout: s(13),
            idle_after: s(14),
            drain_timeout: s(15),
            backoff_min: s(16),
            backoff_max: s(17),
        },
        upstream: Upstream {
            connect_timeout: s(18),
            response_timeout: s(19),
            idle_connections_max: 20,
            idle_timeout: s(21),
        },
        traefik: Traefik {
            api: Some("http://traefik:8080/base".to_owned()),
            metrics: Some("http://[::1]:8082/metrics".to_owned()),
            route_timeout: s(22),
            settle_time: s(0),
        },
        spec: SpecPolicy {
            binds: vec!["/srv".to_owned()],
            privileged: true,
            cap_add: vec!["NET_ADMIN".to_owned()],
            host_network: true,
            devices: vec!["/dev/kvm".to_owned()],
            memory_max: Some(1 << 30),
            cpus_max: Some(2.0),
            pids_max: Some(100),
        },
        apps: BTreeMap::from([
            (
                app("a"),
                App {
                    store: StoreLocation::S3 {
                        bucket: "bucket".to_owned(),
                        prefix: "a/b".to_owned(),
                    },
                    store_options: StoreOptions {
                        endpoint: Some("https://s3.example:9000".to_owned()),
                        region: Some("eu-1".to_owned()),
                        path_style: Some(false),
                    },
                    journal: PathBuf::from("j.json"),
                    registry: "registry.example:5000/team".to_owned(),
                    registry_credentials: Some(PathBuf::from("c.json")),
                    env_file: None,
                    env: BTreeMap::new(),
                    keep: 0,
                    drain_timeout: Duration::ZERO,
                    health_path: Some("/up?a".to_owned()),
                    health_timeout: s(22),
                    rollback_failures_max: Some(0.25),
                    rollback_watch: s(23),
                    rollback_requests_min: 24,
                    pause_max: s(25),
                    network: Some("shop".to_owned()),
                },
            ),
            (app("B.1"), App::new(&app("B.1"))),
        ]),
        log: Log {
            format: LogFormat::Json,
            level: "warn,wakegate=trace".to_owned(),
            requests: true,
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn relative_paths_start_from_the_files_folder() {
    let text = "[public]\nlisten = \"unix:p.sock\"\n[process]\ndir = \"/abs\"";
    let config = parse(text, "/etc/wakegate/gateway.toml", &no_env).unwrap();
    assert_eq!(
        config.public.listen,
        Listen::Unix("/etc/wakegate/p.sock".into())
    );
    assert_eq!(config.scripts.dir, Path::new("/etc/wakegate/scripts"));
    assert_eq!(config.process.dir, Path::new("/abs"));
}
