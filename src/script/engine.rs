//! Rhai with its limits: which of the language scripts have, and how much of everything.

use rhai::packages::{
    BasicArrayPackage, BasicBlobPackage, BasicMapPackage, BasicMathPackage, BitFieldPackage,
    CorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Map, OptimizationLevel, Position};

use crate::config::Given;
use crate::script::documented::Documented as _;
use crate::script::meter;

/// The result of a native function that can fail.
pub type Raw<T> = Result<T, Box<EvalAltResult>>;

/// Functions of the language that a script may not have: they wait, run text as a script, or tell
/// the time. (`timestamp` is not in the engine at all; it is named for the message.)
///
/// `curry` could double a closure's size without end; closures that capture need no `curry`.
pub const FORBIDDEN: [(&str, &str); 5] = [
    ("sleep", "a script never waits"),
    ("eval", "a script does not run text as a script"),
    (
        "timestamp",
        "a script knows when a request came, req.hour, req.minute and req.weekday, and no other time",
    ),
    ("exit", "use return"),
    ("curry", "a closure may use the variables around it"),
];

/// An engine with limits, without anything impure, and without the gateway's own functions.
///
/// The clock, randomness and I/O of the standard library are absent; `print` and `debug` go to
/// the log at debug level. The limits of operations and CPU time are those of [`meter`].
pub fn engine(given: &Given) -> Engine {
    let limits = &given.limits;
    let mut engine = language();
    engine
        .set_strict_variables(true)
        // A misspelt field of a map is an error with its place, not a quiet `()`.
        .set_fail_on_invalid_map_property(true)
        .set_optimization_level(OptimizationLevel::None)
        .set_max_call_levels(limits.call_depth_max)
        .set_max_string_size(limits.string_bytes_max)
        .set_max_array_size(limits.array_items_max)
        .set_max_map_size(limits.map_entries_max)
        .set_max_expr_depths(64, 64)
        .set_max_variables(1_000)
        .set_max_functions(1_000)
        .set_max_modules(100)
        .set_max_operations(0);
    engine.on_progress(|_| meter::tick().map(|over| over.to_string().into()));
    engine.on_print(|text| tracing::debug!(target: "wakegate::script", "{text}"));
    engine.on_debug(|text, file, position| {
        let file = file.unwrap_or_default();
        tracing::debug!(target: "wakegate::script", file, place = ?position, "{text}");
    });
    forbid(&mut engine);
    bounded_replace(&mut engine, limits.string_bytes_max);
    engine.document(
        "get(map: Map, key: String, otherwise: Dynamic) -> Dynamic",
        r#"What the map has for a key; `otherwise`, of any type, where it has nothing.
        ```rhai
        let network = vars.get("network", "web");
        ```"#,
        |map: &mut Map, key: &str, otherwise: Dynamic| map.get(key).cloned().unwrap_or(otherwise),
    );
    engine
}

/// The language with what scripts have of its standard library, and nothing else.
pub fn language() -> Engine {
    let mut engine = Engine::new_raw();
    engine
        .register_global_module(CorePackage::new().as_shared_module())
        .register_global_module(BitFieldPackage::new().as_shared_module())
        .register_global_module(LogicPackage::new().as_shared_module())
        .register_global_module(BasicMathPackage::new().as_shared_module())
        .register_global_module(BasicArrayPackage::new().as_shared_module())
        .register_global_module(BasicBlobPackage::new().as_shared_module())
        .register_global_module(BasicMapPackage::new().as_shared_module())
        .register_global_module(MoreStringPackage::new().as_shared_module());
    engine
}

/// An error that the engine completes with the place of the call.
pub fn refuse<T>(message: impl Into<String>) -> Raw<T> {
    Err(Box::new(EvalAltResult::ErrorRuntime(
        message.into().into(),
        Position::NONE,
    )))
}

/// The static checks refuse these by name; a name made up at run time ends here.
fn forbid(engine: &mut Engine) {
    engine.disable_symbol("eval");
    // `eval` and `curry` are syntax, which a made-up name does not reach.
    let functions = FORBIDDEN.into_iter();
    for (name, why) in functions.filter(|(name, _)| !matches!(*name, "eval" | "curry")) {
        let message = move || refuse::<()>(format!("{name} does not exist here: {why}"));
        engine.register_fn(name, message);
        engine.register_fn(name, move |_: i64| message());
        engine.register_fn(name, move |_: f64| message());
        engine.register_fn(name, move |_: Dynamic| message());
    }
}

/// Rhai measures a string after it was made: replacing in a long one by a long one could ask for
/// gigabytes in one operation. So the length is worked out first.
fn bounded_replace(engine: &mut Engine, string_bytes_max: usize) {
    let replace = move |text: &mut ImmutableString, find: &str, by: &str| -> Raw<()> {
        let found = text.matches(find).count();
        let bytes = text.len() - found * find.len() + found.saturating_mul(by.len());
        if bytes > string_bytes_max {
            return Err(Box::new(EvalAltResult::ErrorDataTooLarge(
                "Length of string".to_owned(),
                Position::NONE,
            )));
        }
        *text = text.replace(find, by).into();
        Ok(())
    };
    engine.register_fn("replace", replace);
    engine.register_fn(
        "replace",
        move |text: &mut ImmutableString, find: char, by: &str| {
            replace(text, find.encode_utf8(&mut [0; 4]), by)
        },
    );
    engine.register_fn(
        "replace",
        move |text: &mut ImmutableString, find: &str, by: char| {
            replace(text, find, by.encode_utf8(&mut [0; 4]))
        },
    );
}
