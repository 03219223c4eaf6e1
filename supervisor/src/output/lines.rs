//! From bytes to lines, and from lines to what is written. Pure: no IO, no clock.

use std::io::Write;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lifecycle::Role;

use super::sink::Stream;

/// The longest line that is passed on whole, in bytes. What it becomes in JSON usually stays below the 16 KiB at which Docker's log
/// drivers cut lines themselves (moby, `daemon/logger/copier.go`).
pub const PIECE: usize = 8 * 1024;
/// Enough for one write(2), in bytes. With the line that passes it, and JSON's escapes, this bounds what is held.
const ENOUGH: usize = 16 * 1024;

/// What lines become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `worker | line`; `worker + rest` for the further pieces of a long line.
    Prefixed,
    /// One JSON object each.
    Json,
}

/// The lines of one stream of one child.
#[derive(Debug)]
pub struct Lines {
    form: Form,
    role: Role,
    stream: Stream,
    /// The beginning of a line whose end has not come yet; at most [`PIECE`] bytes.
    begun: Vec<u8>,
    /// Whether an earlier piece of this line has been passed on.
    continued: bool,
}

impl Lines {
    /// Of a stream from which nothing has been read.
    pub fn new(form: Form, role: Role, stream: Stream) -> Self {
        Self { form, role, stream, begun: Vec::new(), continued: false }
    }

    /// Appends to `out` what `input` completes, and returns the part of `input` that is left because `out` holds enough for one write.
    pub fn feed<'a>(&mut self, mut input: &'a [u8], read_at: SystemTime, out: &mut Vec<u8>) -> &'a [u8] {
        while !input.is_empty() && out.len() < ENOUGH {
            let room = PIECE.saturating_sub(self.begun.len());
            let end = input.iter().take(room.saturating_add(1)).position(|byte| *byte == b'\n');
            if let Some((line, rest)) = end.and_then(|end| input.split_at_checked(end)) {
                self.complete(line, read_at, out);
                input = rest.get(1..).unwrap_or_default();
            } else if let Some((piece, rest)) =
                input.split_at_checked(room).filter(|(_, rest)| !rest.is_empty())
            {
                self.begun.extend_from_slice(piece);
                self.cut(read_at, out);
                input = rest;
            } else {
                self.begun.extend_from_slice(input);
                input = &[];
            }
        }
        input
    }

    /// Appends the last line, where the stream did not end with a line feed.
    pub fn finish(&mut self, read_at: SystemTime, out: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            self.complete(&[], read_at, out);
        }
    }

    fn complete(&mut self, line: &[u8], read_at: SystemTime, out: &mut Vec<u8>) {
        if self.begun.is_empty() {
            self.write(line, false, read_at, out);
        } else {
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(line);
            self.write(&begun, false, read_at, out);
            begun.clear();
            self.begun = begun;
        }
        self.continued = false;
    }

    /// Passes on what has begun, but for a character whose last bytes have not come yet.
    fn cut(&mut self, read_at: SystemTime, out: &mut Vec<u8>) {
        let mut begun = std::mem::take(&mut self.begun);
        let at = match std::str::from_utf8(&begun) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => begun.len(),
        };
        let rest = begun.split_off(at);
        self.write(&begun, true, read_at, out);
        self.continued = true;
        self.begun = rest;
    }

    fn write(&self, line: &[u8], partial: bool, read_at: SystemTime, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail (its `Write`), and neither can turning a string into JSON.
        let _never_fails = match self.form {
            Form::Prefixed => {
                let mark = if self.continued { '+' } else { '|' };
                write!(out, "{} {mark} ", self.role).and_then(|()| out.write_all(line))
            }
            Form::Json => self.write_json(line, partial, read_at, out),
        };
        out.push(b'\n');
    }

    fn write_json(
        &self,
        line: &[u8],
        partial: bool,
        read_at: SystemTime,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let time = humantime::format_rfc3339_micros(read_at);
        let (role, stream) = (self.role, self.stream.name());
        write!(out, r#"{{"timestamp":"{time}","source":"{role}","stream":"{stream}","message":"#)?;
        match std::str::from_utf8(line) {
            Ok(text) => serde_json::to_writer(&mut *out, text)?,
            Err(_) => {
                serde_json::to_writer(&mut *out, &String::from_utf8_lossy(line))?;
                write!(out, r#","base64":"{}""#, STANDARD.encode(line))?;
            }
        }
        out.write_all(if partial { br#","partial":true}"# } else { b"}" })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::*;

    /// What comes of the input when it is read in chunks of this size.
    fn lines(form: Form, input: &[u8], chunk: usize) -> Vec<u8> {
        let mut lines = Lines::new(form, Role::Worker, Stream::Stdout);
        let at = UNIX_EPOCH + Duration::from_millis(1500);
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for mut chunk in input.chunks(chunk) {
            while !chunk.is_empty() {
                chunk = lines.feed(chunk, at, &mut out);
                assert!(out.len() < ENOUGH + 5 * PIECE, "{}", out.len());
                all.append(&mut out);
            }
        }
        lines.finish(at, &mut out);
        all.append(&mut out);
        all
    }

    fn objects(input: &[u8], chunk: usize) -> Vec<Value> {
        let text = String::from_utf8(lines(Form::Json, input, chunk)).expect("JSON is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The bytes that the objects stand for.
    fn restored(objects: &[Value]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for object in objects {
            match object["base64"].as_str() {
                Some(text) => bytes.extend(STANDARD.decode(text).expect("base64")),
                None => bytes.extend(object["message"].as_str().expect("text").bytes()),
            }
            if object["partial"] != true {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    /// The bytes that prefixed lines stand for.
    fn unprefixed(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match line.split_at(9) {
                (b"worker | ", line) => bytes.extend(line),
                (b"worker + ", rest) => {
                    assert_eq!(bytes.pop(), Some(b'\n'), "a piece without a beginning");
                    bytes.extend(rest);
                }
                (other, _) => panic!("{:?}", String::from_utf8_lossy(other)),
            }
        }
        bytes
    }

    #[test]
    fn each_line_says_who_wrote_it_and_the_last_needs_no_line_feed() {
        assert_eq!(
            lines(Form::Prefixed, b"a\n\nb\r\nc", 100),
            b"worker | a\nworker | \nworker | b\r\nworker | c\n"
        );
        assert_eq!(lines(Form::Prefixed, b"", 1), b"");
    }

    #[test]
    fn a_line_becomes_an_object_with_the_fields_of_our_own_log() {
        let expected = json!({
            "timestamp": "1970-01-01T00:00:01.500000Z", "source": "worker", "stream": "stdout", "message": "a \"b\" {\"c\":1}",
        });
        assert_eq!(objects(b"a \"b\" {\"c\":1}\n", 100), [expected]);
    }

    #[test]
    fn what_is_no_utf8_is_shown_as_well_as_can_be_and_kept_exactly() {
        let objects = objects(b"caf\xe9\n", 100);
        assert_eq!(objects[0]["message"], "caf\u{fffd}");
        assert_eq!(restored(&objects), b"caf\xe9\n");
    }

    #[test]
    fn a_piece_is_passed_on_whole_and_one_byte_more_is_two() {
        let line = vec![b'x'; PIECE];
        for chunk in [1, PIECE, PIECE + 1, 100_000] {
            let whole = objects(&[&line[..], b"\n"].concat(), chunk);
            assert_eq!((whole.len(), &whole[0]["partial"]), (1, &Value::Null));
            let two = objects(&[&line[..], b"y\nz"].concat(), chunk);
            assert_eq!(two.len(), 3);
            assert_eq!((&two[0]["partial"], &two[1]["partial"]), (&json!(true), &Value::Null));
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "🜂".repeat(PIECE));
            let objects = objects(text.as_bytes(), 1000);
            assert!(objects.iter().all(|object| object["base64"] == Value::Null));
            assert_eq!(restored(&objects), format!("{text}\n").as_bytes());
        }
    }

    #[test]
    fn nothing_is_lost_or_reordered_whatever_it_is_and_however_it_is_read() {
        // xorshift64 (Marsaglia, 2003): the same garbage in each run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..40 {
            let mut input = Vec::new();
            for _ in 0..random() % 8 {
                let length = random() % (3 * PIECE as u64);
                match random() % 3 {
                    0 => input.extend((0..length).map(|_| (random() >> 56) as u8)),
                    1 => input.extend(std::iter::repeat_n(b'\n', length as usize)),
                    _ => input.extend("é".repeat(length as usize / 2).bytes()),
                }
            }
            let chunk = 1 + random() as usize % 20_000;
            let mut expected = input.clone();
            if input.last().is_some_and(|last| *last != b'\n') {
                expected.push(b'\n');
            }
            assert!(restored(&objects(&input, chunk)) == expected, "JSON in chunks of {chunk}");
            assert!(
                unprefixed(&lines(Form::Prefixed, &input, chunk)) == expected,
                "prefixed in chunks of {chunk}"
            );
        }
    }
}
