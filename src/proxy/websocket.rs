//! Where the frames of a websocket begin and end (RFC 6455 §5.2), for whoever wants to put one between them.

/// The longest head of a frame from a server: two bytes and a length of eight. Frames from servers
/// have no masking key.
const HEAD_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTROL: u8 = 0x08;
const CLOSE: u8 = 0x08;

/// A whole Close frame from a server with the code 1001, "going away" (RFC 6455 §7.4.1).
pub const GOING_AWAY: [u8; 4] = [FIN | CLOSE, 2, 0x03, 0xe9];

/// Follows the bytes that a server sends after its handshake. Keeps no payload.
///
/// Messages do not matter here: a control frame may stand between the fragments of a message (RFC
/// 6455 §5.4), and what extensions do to payloads leaves the frames as they are.
#[derive(Debug, Default)]
pub struct Frames {
    at: At,
}

/// Where the bytes that were followed have led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All frames that have begun have ended.
    Between,
    Within,
    /// The server has sent its Close frame, after which it sends none (RFC 6455 §5.5.1).
    Closed,
    /// Something came that no server may send, so nobody knows where frames begin.
    Lost,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Between,
    Head {
        bytes: [u8; HEAD_BYTES_MAX],
        have: usize,
    },
    Payload {
        left: u64,
        closes: bool,
    },
    Closed,
    Lost,
}

/// What the bytes of a head say.
enum Head {
    Incomplete,
    Malformed,
    Payload { bytes: u64, closes: bool },
}

impl Frames {
    pub fn place(&self) -> Place {
        match self.at {
            At::Between => Place::Between,
            At::Head { .. } | At::Payload { .. } => Place::Within,
            At::Closed => Place::Closed,
            At::Lost => Place::Lost,
        }
    }

    /// Follows the bytes to their end.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.finish(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// Follows the bytes only to the end of the frame that has begun, or begins with them. Gives
    /// how many those are: all, where that end is not among them, or where frames do not matter any
    /// more.
    pub fn finish(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            match &mut self.at {
                At::Between => {
                    self.at = At::Head {
                        bytes: [0; HEAD_BYTES_MAX],
                        have: 0,
                    };
                }
                At::Head { bytes: head, have } => {
                    head[*have] = bytes[taken];
                    *have += 1;
                    taken += 1;
                    match read_head(&head[..*have]) {
                        Head::Incomplete => continue,
                        Head::Malformed => self.at = At::Lost,
                        Head::Payload {
                            bytes: left,
                            closes,
                        } => self.at = At::Payload { left, closes },
                    }
                }
                At::Payload { left, .. } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX);
                    let here = here.min(bytes.len() - taken);
                    *left -= here as u64;
                    taken += here;
                }
                At::Closed | At::Lost => return bytes.len(),
            }
            if let At::Payload { left: 0, closes } = self.at {
                self.at = if closes { At::Closed } else { At::Between };
                return if closes { bytes.len() } else { taken };
            }
        }
        taken
    }
}

fn read_head(head: &[u8]) -> Head {
    let [first, second, length @ ..] = head else {
        return Head::Incomplete;
    };
    let opcode = first & 0x0f;
    let control = opcode & CONTROL != 0;
    let short = second & !MASKED;
    let known = matches!(opcode, 0..=2 | 8..=10);
    // A control frame is whole and short (RFC 6455 §5.5).
    let misshapen = control && (first & FIN == 0 || short > 125);
    if !known || misshapen || second & MASKED != 0 {
        return Head::Malformed;
    }
    let bytes = match (short, length) {
        (0..=125, _) => u64::from(short),
        (126, [a, b]) => u64::from(u16::from_be_bytes([*a, *b])),
        (127, [_, _, _, _, _, _, _, _]) => {
            let length = length.iter();
            length.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        }
        _ => return Head::Incomplete,
    };
    if bytes >> 63 != 0 {
        return Head::Malformed;
    }
    Head::Payload {
        bytes,
        closes: opcode == CLOSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame from a server; its payload looks like heads of frames.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..=125 => frame.push(payload as u8),
            126..=0xffff => {
                frame.push(126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(GOING_AWAY.iter().cycle().take(payload));
        frame
    }

    /// Frames one after another, and where each ends.
    fn stream(frames: &[(u8, usize)]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (first, payload) in frames {
            bytes.extend(frame(*first, *payload));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// A text in three fragments with a ping in between, a compressed message, an empty one, a pong.
    const FRAMES: [(u8, usize); 8] = [
        (0x01, 125),
        (0x89, 0),
        (0x00, 126),
        (0x80, 1),
        (0xc2, 300),
        (0x82, 0),
        (0x8a, 125),
        (0x81, 127),
    ];

    #[test]
    fn the_next_end_of_a_frame_is_found_from_everywhere_and_across_any_split() {
        let (bytes, ends) = stream(&FRAMES);
        for from in 0..bytes.len() {
            let mut at = Frames::default();
            at.follow(&bytes[..from]);
            let between = from == 0 || ends.contains(&from);
            assert_eq!(at.place() == Place::Between, between, "at {from}");
            let end = *ends.iter().find(|end| **end > from).unwrap();
            for split in from..=end {
                let mut frames = Frames::default();
                frames.follow(&bytes[..from]);
                let first = frames.finish(&bytes[from..split]);
                assert_eq!(first, split - from, "from {from} to {split}");
                let rest = frames.finish(&bytes[split..]);
                // An end that is reached is an end; what follows is the next frame.
                let next = *ends.iter().find(|end| **end > split).unwrap_or(&split);
                assert_eq!(split + rest, next, "from {from} over {split}");
                let place = frames.place();
                assert_eq!(place, Place::Between, "from {from} over {split}");
            }
        }
    }

    #[test]
    fn long_frames_end_where_their_lengths_say() {
        for payload in [125, 126, 127, 0xffff, 0x1_0000, 0x1_0001, 300_000] {
            let (bytes, ends) = stream(&[(0x02, payload), (0x80, payload), (0x81, 3)]);
            let mut frames = Frames::default();
            for (index, byte) in bytes.iter().enumerate() {
                assert_eq!(frames.finish(&[*byte]), 1);
                let between = ends.contains(&(index + 1));
                assert_eq!(frames.place() == Place::Between, between, "at {index}");
            }
            let mut frames = Frames::default();
            assert_eq!(frames.finish(&bytes), ends[0]);
        }
        let mut frames = Frames::default();
        let longest = [0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255];
        frames.follow(&longest);
        frames.follow(&[0; 1000]);
        assert_eq!(frames.place(), Place::Within);
    }

    #[test]
    fn after_the_servers_own_close_frames_do_not_matter() {
        for payload in [0, 2, 125] {
            let (mut bytes, ends) = stream(&[(0x81, 5), (0x88, payload)]);
            bytes.extend(b"whatever");
            for split in 0..bytes.len() {
                let mut frames = Frames::default();
                frames.follow(&bytes[..split]);
                let closed = split >= ends[1];
                assert_eq!(frames.place() == Place::Closed, closed, "at {split}");
                frames.follow(&bytes[split..]);
                assert_eq!(frames.place(), Place::Closed);
                assert_eq!(frames.finish(b"more"), 4);
            }
            let mut frames = Frames::default();
            frames.follow(&bytes[..ends[0]]);
            assert_eq!(frames.finish(&bytes[ends[0]..]), bytes.len() - ends[0]);
        }
    }

    #[test]
    fn what_no_server_may_send_ends_the_following() {
        for head in [
            &[0x81, 0x85][..],
            &[0x81, 0x80],
            &[0x83, 0],
            &[0x87, 0],
            &[0x8b, 0],
            &[0x8f, 0],
            &[0x08, 2],
            &[0x09, 0],
            &[0x88, 126],
            &[0x89, 127],
            &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
            b"HTTP",
        ] {
            let mut frames = Frames::default();
            frames.follow(&frame(0x81, 9));
            frames.follow(head);
            assert_eq!(frames.place(), Place::Lost, "{head:?}");
            assert_eq!(frames.finish(&frame(0x81, 9)), frame(0x81, 9).len());
            assert_eq!(frames.place(), Place::Lost, "{head:?}");
        }
    }

    #[test]
    fn the_close_frame_is_a_whole_frame() {
        let mut frames = Frames::default();
        assert_eq!(frames.finish(&GOING_AWAY), GOING_AWAY.len());
        assert_eq!(frames.place(), Place::Closed);
    }

    #[test]
    fn how_bytes_are_split_never_changes_what_they_say() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut seen = Vec::new();
        for _ in 0..600 {
            let mut bytes = Vec::new();
            for _ in 0..random.usize(1..6) {
                let first = random.choice([0x01, 0x00, 0x80, 0x82, 0xc1, 0x89, 0x8a, 0x88]);
                let payload = random.choice([0, 1, 2, 125, 126, 200, 0xffff, 0x1_0000]);
                bytes.extend(frame(first.unwrap(), payload.unwrap()));
            }
            bytes.truncate(random.usize(..=bytes.len()));
            if random.u8(..4) == 0 && !bytes.is_empty() {
                let spoilt = random.usize(..bytes.len());
                bytes[spoilt] = random.u8(..);
            }
            let mut whole = Frames::default();
            whole.follow(&bytes);
            let mut split = Frames::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (part, further) = rest.split_at(random.usize(1..=rest.len().min(70_000)));
                split.follow(part);
                rest = further;
            }
            assert_eq!(whole.place(), split.place());
            seen.push(whole.place());
        }
        for place in [Place::Between, Place::Within, Place::Closed, Place::Lost] {
            assert!(seen.contains(&place), "{place:?}");
        }
    }
}
