//! A question to an HTTP server nearby: its whole answer within a limit, or in a few words why there is
//! none.

use reqwest::RequestBuilder;

/// Status and body of at most `bytes_max` bytes. `late` says that it took longer than the client waits.
///
/// # Errors
/// What went wrong, for a message that says before whom it was asked.
pub async fn ask(
    request: RequestBuilder,
    bytes_max: usize,
    late: &str,
) -> Result<(u16, Vec<u8>), String> {
    let failed = |error: reqwest::Error| reason(&error, late);
    let mut answer = request.send().await.map_err(failed)?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(failed)? {
        if body.len() + part.len() > bytes_max {
            return Err(format!("its answer has more than {bytes_max} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok((answer.status().as_u16(), body))
}

/// The innermost reason: "connection refused" rather than "error sending request".
pub fn reason(error: &reqwest::Error, late: &str) -> String {
    if error.is_timeout() {
        return late.to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
