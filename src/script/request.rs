//! The request as a script sees it: typed, read on demand, and every read recorded.

use std::cell::{Cell, RefCell};

use http::HeaderName;
use jiff::tz::TimeZone;
use rhai::{Array, Dynamic, Engine, INT, Map};
use scoped_tls_hkt::scoped_thread_local;

use crate::config::Given;
use crate::decision::RequestFacts;
use crate::script::documented::Documented as _;
use crate::script::engine::{Raw, refuse};
use crate::script::field::{Field, RawValue, Reads, TimePart, decoded, header, segments};
use crate::script::routes::Captures;

/// Reads that one evaluation may have and still be remembered.
const READS_MAX: usize = 64;

scoped_thread_local!(static READING: for<'a> &'a Reading<'a>);

/// `req` in a script. It is only a key to the request that is being decided on this thread, so
/// that nothing is copied that is not read.
#[derive(Debug, Clone, Copy)]
pub struct Request;

/// A request while a script reads it.
pub struct Reading<'a> {
    facts: &'a RequestFacts<'a>,
    captures: Option<&'a Captures<'a>>,
    reads: RefCell<Vec<Field>>,
    /// All headers were read at once.
    all_headers: Cell<bool>,
    /// More was read than is recorded.
    more: Cell<bool>,
}

impl<'a> Reading<'a> {
    pub fn new(facts: &'a RequestFacts<'a>, captures: Option<&'a Captures<'a>>) -> Self {
        Self {
            facts,
            captures,
            reads: RefCell::default(),
            all_headers: Cell::new(false),
            more: Cell::new(false),
        }
    }

    /// Makes this the request that [`Request`] stands for while `call` runs.
    pub fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        READING.set(self, call)
    }

    /// What was read.
    pub fn into_reads(self) -> Reads {
        Reads {
            fields: self.reads.into_inner(),
            all_headers: self.all_headers.get(),
            more: self.more.get(),
        }
    }

    fn read<T>(&self, field: Field, take: impl FnOnce(&Field, &RawValue<'_>) -> T) -> T {
        let taken = take(&field, &field.of(self.facts, self.captures));
        let mut reads = self.reads.borrow_mut();
        if reads.contains(&field) {
            // What was read before cannot have changed: it tells nothing new.
        } else if reads.len() < READS_MAX {
            reads.push(field);
        } else {
            self.more.set(true);
        }
        taken
    }
}

fn reading<T>(read: impl for<'a> FnOnce(&'a Reading<'a>) -> T) -> Raw<T> {
    if READING.is_set() {
        Ok(READING.with(|reading| read(reading)))
    } else {
        refuse("there is no request here: req is valid only while its route is asked")
    }
}

fn read(field: Field) -> Raw<Option<String>> {
    reading(|reading| reading.read(field, Field::text))
}

/// Registers `req`. Its hours and days are counted where scripts are told that they live.
pub fn register(engine: &mut Engine, given: &Given) {
    engine.register_type_with_name::<Request>("Request");
    register_texts(engine);
    register_time(engine, &given.time_zone);
    let segments_max = given.limits.array_items_max;
    engine.document(
        "get segments(req: Request) -> Array",
        r#"The segments of the path, decoded: `["a", "b c"]` of `/a/b%20c`, `[""]` of `/`.
        Of a path with more of them than an array may have items, the first ones."#,
        move |_: &mut Request| -> Raw<Array> {
            let path = read(Field::Path)?.unwrap_or_default();
            Ok(segments(&path)
                .take(segments_max)
                .map(|segment| decoded(segment.as_bytes()).into())
                .collect())
        },
    );
    engine.document(
        "get headers(req: Request) -> Map",
        r#"All headers by their names in lower case. Lines of the same name are joined by ", ".
        What a route decides after reading this is not remembered: `req.header(name)` is faster."#,
        |_: &mut Request| all_headers(),
    );
    engine.document(
        "segment(req: Request, index: int) -> String",
        r#"One segment of the path, decoded. The first is 0; "" where there is none.
        ```rhai
        let shop = req.segment(0);
        ```"#,
        |_: &mut Request, index: INT| text(usize::try_from(index).ok().map(Field::Segment)),
    );
    engine.document(
        "param(req: Request, name: String) -> String",
        r#"What `{name}` or `{*name}` in the route's pattern stands for, decoded.
        "" where the pattern has no such name, and always in on_error, which belongs to no pattern.
        ```rhai
        route("/app/{name}/{*rest}", |req| proxy(req.param("name")));
        ```"#,
        |_: &mut Request, name: &str| text(Some(Field::Param(name.into()))),
    );
    let fields: [Keyed; 3] = [
        Keyed {
            function: "header",
            key: "name",
            doc: r#"A header, whose name may be in any case. Several lines of it are joined by ", "."#,
            field: |name| {
                HeaderName::from_bytes(name.as_bytes())
                    .ok()
                    .map(Field::Header)
            },
        },
        Keyed {
            function: "query",
            key: "key",
            doc: "The first value of a key in the query, decoded; a plus is a space.",
            field: |key| Some(Field::QueryValue(key.into())),
        },
        Keyed {
            function: "cookie",
            key: "name",
            doc: "The first cookie of a name, as it was sent, without quotes around it.",
            field: |name| Some(Field::Cookie(name.into())),
        },
    ];
    for keyed in fields {
        keyed.register(engine);
    }
}

fn register_texts(engine: &mut Engine) {
    let texts = [
        (
            "method",
            Field::Method,
            r#"The method, such as "GET", as it was sent."#,
        ),
        (
            "scheme",
            Field::Scheme,
            r#""http" or "https", as the client used it."#,
        ),
        (
            "host",
            Field::Host,
            r#"The host that was asked for, in lower case and without its port; "" where none was named."#,
        ),
        (
            "path",
            Field::Path,
            "The path as it was sent: still percent-encoded, with its first slash, without the query.",
        ),
        (
            "query",
            Field::Query,
            r#"What follows the `?`, as it was sent; "" where nothing does. `req.query(key)` reads one value."#,
        ),
        (
            "client",
            Field::Client,
            "The client's IP address, as text, as the trusted proxies tell it.",
        ),
    ];
    for (name, field, doc) in texts {
        engine.document(
            &format!("get {name}(req: Request) -> String"),
            doc,
            move |_: &mut Request| -> Raw<String> { Ok(read(field.clone())?.unwrap_or_default()) },
        );
    }
}

fn register_time(engine: &mut Engine, zone: &TimeZone) {
    let parts = [
        ("hour", TimePart::Hour, "The hour, 0 to 23,"),
        ("minute", TimePart::Minute, "The minute, 0 to 59,"),
        (
            "weekday",
            TimePart::Weekday,
            "The day of the week, 1 (Monday) to 7 (Sunday),",
        ),
    ];
    for (name, part, doc) in parts {
        let field = Field::Time(part, zone.clone());
        engine.document(
            &format!("get {name}(req: Request) -> int"),
            &format!(
                "{doc} at which the request came.\n\
                 It is that of time_zone under [scripts] in gateway.toml; UTC where that is not set."
            ),
            move |_: &mut Request| -> Raw<INT> {
                let read = |reading: &Reading<'_>| {
                    reading.read(field.clone(), |_, raw| raw.number().unwrap_or_default())
                };
                reading(read)
            },
        );
    }
}

/// Something that a request has many of, each by its key, and any may be missing.
struct Keyed {
    function: &'static str,
    /// What a key is called.
    key: &'static str,
    doc: &'static str,
    field: fn(&str) -> Option<Field>,
}

impl Keyed {
    fn register(self, engine: &mut Engine) {
        let Self {
            function,
            key,
            doc,
            field,
        } = self;
        engine.document(
            &format!("{function}(req: Request, {key}: String) -> String"),
            &format!("{doc}\n\"\" where the request has none."),
            move |_: &mut Request, key: &str| text(field(key)),
        );
        engine.document(
            &format!("{function}(req: Request, {key}: String, otherwise: Dynamic) -> Dynamic"),
            &format!("{doc}\n`otherwise`, of any type, where the request has none."),
            move |_: &mut Request, key: &str, otherwise: Dynamic| -> Raw<Dynamic> {
                Ok(match field(key).map(read).transpose()?.flatten() {
                    Some(text) => text.into(),
                    None => otherwise,
                })
            },
        );
    }
}

/// Missing is `""`, never an exception: a request may lack anything.
fn text(field: Option<Field>) -> Raw<String> {
    Ok(field.map(read).transpose()?.flatten().unwrap_or_default())
}

/// All headers in a map. What it depends on is not worth recording.
fn all_headers() -> Raw<Map> {
    reading(|reading| {
        reading.all_headers.set(true);
        let names = reading.facts.headers.keys();
        names
            .map(|name| {
                let field = Field::Header(name.clone());
                let text = field.text(&header(reading.facts, name)).unwrap_or_default();
                (name.as_str().into(), text.into())
            })
            .collect()
    })
}
