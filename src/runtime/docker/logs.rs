//! What containers have printed, read from the engine's own logs.
//!
//! Read here and not by the library: that (0.21) guesses from the first byte whether a terminal's
//! output comes in frames, and a line that begins with a control character misleads it.

use bollard::errors::Error;
use http_body_util::BodyExt;

use super::{Docker, Subject, container_segment, runtime_error};
use crate::runtime::tail::{LINES_MAX, Source, Tail};
use crate::runtime::{InstanceId, RuntimeError};

/// The engine counts pieces of at most 16 KiB as lines; a long line is several.
const PIECES_PER_LINE: usize = 2;

const HEADER_BYTES: usize = 8;

impl Docker {
    pub(super) async fn last_lines(
        &self,
        id: &InstanceId,
        lines: usize,
    ) -> Result<Vec<String>, RuntimeError> {
        let container = self.inspect_any(id.as_str()).await?;
        if !self.owns(&container) {
            return Err(RuntimeError::NotFound(id.to_string()));
        }
        let tty = container.config.and_then(|config| config.tty);
        let path = format!(
            "/containers/{}/logs?stdout=1&stderr=1&tail={}",
            container_segment(id.as_str())?,
            lines.min(LINES_MAX) * PIECES_PER_LINE
        );
        let reading = async {
            let mut body = self.engine.get(&path).await?.into_body();
            let mut tail = Tail::new(lines);
            let mut frames = Frames::default();
            while let Some(frame) = body.frame().await {
                let Ok(bytes) = frame?.into_data() else {
                    continue;
                };
                match tty {
                    Some(true) => tail.push(Source::Stdout, &bytes),
                    _ => frames.read(&bytes, &mut tail),
                }
            }
            Ok::<_, Error>(tail.into_lines())
        };
        self.within(self.timeout, reading)
            .await?
            .map_err(|error| runtime_error(error, Subject::Container(id.as_str())))
    }
}

/// Both outputs of a container without a terminal in one stream: each piece has a header with the
/// output's number and the piece's length (Docker Engine API, "Attach to a container").
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// The output that the current piece belongs to, and what is still to come of it.
    piece: Option<(Source, usize)>,
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8], tail: &mut Tail) {
        while !bytes.is_empty() {
            let Some((source, left)) = self.piece else {
                let missing = (HEADER_BYTES - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                if let [number, _, _, _, length @ ..] = self.header.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    // 1 is what the application prints; 2 its errors, 3 those of the engine.
                    let source = match number {
                        0 | 1 => Source::Stdout,
                        _ => Source::Stderr,
                    };
                    let length = u32::from_be_bytes(length) as usize;
                    self.piece = (length > 0).then_some((source, length));
                    self.header.clear();
                }
                continue;
            };
            let (now, later) = bytes.split_at(left.min(bytes.len()));
            tail.push(source, now);
            self.piece = (left > now.len()).then(|| (source, left - now.len()));
            bytes = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![number, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text);
        frame
    }

    #[test]
    fn frames_are_told_apart_wherever_they_are_cut() {
        let all = [
            frame(1, b"one\n"),
            frame(2, b"an error, "),
            frame(1, b""),
            frame(1, b"\x01\x02two\n"),
            frame(2, b"in two pieces\n"),
            frame(3, b"the engine's\n"),
            frame(1, b"last"),
        ]
        .concat();
        let lines = [
            "one",
            "two",
            "an error, in two pieces",
            "the engine's",
            "last",
        ];
        for size in 1..all.len() {
            let mut tail = Tail::new(10);
            let mut frames = Frames::default();
            for part in all.chunks(size) {
                frames.read(part, &mut tail);
            }
            assert_eq!(tail.into_lines(), lines, "in parts of {size}");
        }
    }
}
