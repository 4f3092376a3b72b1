//! From a file, a pipe or a Python object to blocks of a plain tar stream.
//!
//! The caller's thread reads and decompresses; a second one makes the files. So the two overlap,
//! as `zstd -dc | tar -x` does, and the caller's thread, the only one in which Python can tell
//! of Ctrl-C, is the one that waits for a slow source.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use crate::error::{Error, Kind, PROCESS_LIMIT, Result};

/// What passes from thread to thread at once.
const BLOCK: usize = 256 * 1024;
/// How far the reading may be ahead.
const BLOCKS: usize = 4;
/// How long an interruption may go unseen.
const LOOK: Duration = Duration::from_millis(50);

/// Where a stream comes from.
pub enum Source {
    /// An open file, read from where it stands.
    File(File),
    /// Anything else that can be read.
    Reader(Box<dyn Read + Send>),
}

impl Source {
    /// The file at a path; for a named pipe, whoever writes into it is waited for.
    pub fn open(path: &Path) -> Result<Source> {
        // O_NONBLOCK: opening a named pipe would wait where nothing can interrupt it.
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let opened = options.open(path).map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::SystemCall,
            };
            Error::io("open", path, &error).with_kind(kind)
        });
        opened.map(Source::File)
    }

    /// A copy of a descriptor that the caller goes on owning.
    pub fn from_fd(number: RawFd) -> Result<Source> {
        let fd = crate::sys::fds::duplicate(number)
            .map_err(|errno| Error::call("dup", format_args!("file descriptor {number}"), errno))?;
        Ok(Source::File(File::from(fd)))
    }
}

/// Asks the caller whether to stop, not too often: the answer may need Python's lock.
pub struct Watch<'a> {
    stop: &'a (dyn Fn() -> bool + Sync),
    asked: Cell<Instant>,
}

impl<'a> Watch<'a> {
    /// `stop` answers true once the work is no longer wanted.
    pub fn new(stop: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Watch { stop, asked: Cell::new(Instant::now()) }
    }

    /// An error once the caller wants to stop; asks every so often only.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.asked.get().elapsed() < LOOK {
            return Ok(());
        }
        self.asked.set(Instant::now());
        if (self.stop)() { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }
}

/// Runs `consume` on the plain stream in a thread of its own.
pub(super) fn decoded<T: Send>(
    source: Source,
    watch: &Watch<'_>,
    consume: impl FnOnce(Blocks<'_>) -> Result<T> + Send,
) -> Result<T> {
    match source {
        Source::File(file) if is_plain(&file) => from_disk(file, watch, consume),
        source => from_stream(source, watch, consume),
    }
}

/// A plain file on disk has nothing to wait for and nothing to decode: whoever unpacks it reads
/// it, while its bytes are still in that processor's cache.
fn from_disk<T: Send>(
    file: File,
    watch: &Watch<'_>,
    consume: impl FnOnce(Blocks<'_>) -> Result<T> + Send,
) -> Result<T> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (ended, end) = sync_channel::<()>(0);
        let stop = &stop;
        let worker = begin(scope, move || {
            let _ended = ended;
            consume(Blocks::new(Feed::Disk { file, stop }))
        })?;
        let mut interrupted = None;
        while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK) {
            if let Err(error) = watch.check() {
                stop.store(true, Ordering::Relaxed);
                interrupted = Some(error);
            }
        }
        let consumed = joined(worker);
        interrupted.map_or(consumed, |error| Err(source_error(&error)))
    })
}

fn from_stream<T: Send>(
    source: Source,
    watch: &Watch<'_>,
    consume: impl FnOnce(Blocks<'_>) -> Result<T> + Send,
) -> Result<T> {
    let (full, filled) = sync_channel(BLOCKS);
    let (emptied, empty) = sync_channel(BLOCKS);
    for _ in 0..BLOCKS {
        // The channel is as long as there are blocks.
        let _ = emptied.send(Vec::new());
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let worker = begin(scope, move || {
            let consumed = consume(Blocks::new(Feed::Thread { filled, emptied }));
            over.store(true, Ordering::Relaxed);
            consumed
        })?;
        let fed = feed(source, watch, over, &full, &empty);
        drop(full);
        let consumed = joined(worker);
        // A source that failed is why the archive ended early.
        fed.map_err(|error| source_error(&error))?;
        consumed
    })
}

fn source_error(error: &io::Error) -> Error {
    Error::new(Kind::Other, error.to_string()).context("read the archive")
}

/// Whether this is a file on disk without compression; it stays where it stands.
fn is_plain(file: &File) -> bool {
    let mut magic = [0; 4];
    let mut here = file;
    file.metadata().is_ok_and(|metadata| metadata.is_file())
        && here
            .stream_position()
            .and_then(|position| file.read_at(&mut magic, position))
            .is_ok_and(|length| length > 0 && Packing::of(magic) == Packing::None)
}

/// How a stream is compressed, told by the magic number at its start.
#[derive(PartialEq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(magic: [u8; 4]) -> Packing {
        match magic {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Packing::Zstd,
            _ => Packing::None,
        }
    }
}

fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
        Error::call("clone3", "for a thread that unpacks", errno).hint(PROCESS_LIMIT)
    })
}

fn joined<T>(worker: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    worker.join().unwrap_or_else(|_| Err(Error::new(Kind::Other, "the unpacking thread died")))
}

fn feed(
    source: Source,
    watch: &Watch<'_>,
    over: &AtomicBool,
    full: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut plain = decoder(Raw::new(source, watch, over))?;
    loop {
        let mut block = loop {
            match empty.recv_timeout(LOOK) {
                Ok(block) => break block,
                Err(RecvTimeoutError::Timeout) => watch.check()?,
                // The consumer ended, and says itself how.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        };
        watch.check()?;
        block.resize(BLOCK, 0);
        let length = match read_full(&mut plain, &mut block) {
            Err(_) if over.load(Ordering::Relaxed) => return Ok(()),
            read => read?,
        };
        block.truncate(length);
        // An empty block says that this is the end, and not a failure.
        if full.send(block).is_err() || length == 0 {
            return Ok(());
        }
    }
}

fn read_full(source: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match source.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn decoder<'a>(mut raw: Raw<'a>) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let length = read_full(&mut raw, &mut magic)?;
    if length == 0 {
        return Err(io::Error::other("the stream is empty"));
    }
    let whole = Cursor::new(magic[..length].to_vec()).chain(raw);
    let buffered = |whole| BufReader::with_capacity(BLOCK, whole);
    Ok(match Packing::of(magic) {
        Packing::Gzip => Box::new(Gzip(MultiGzDecoder::new(buffered(whole)))),
        Packing::Zstd => {
            Box::new(Zstd { source: buffered(whole), frame: FrameDecoder::new(), inside: false })
        }
        Packing::None => Box::new(whole),
    })
}

/// The undecoded source, whose waits an interruption ends.
struct Raw<'a> {
    source: Source,
    /// A regular file never makes anybody wait.
    waits: bool,
    watch: &'a Watch<'a>,
    over: &'a AtomicBool,
}

impl<'a> Raw<'a> {
    fn new(source: Source, watch: &'a Watch<'a>, over: &'a AtomicBool) -> Self {
        let waits = match &source {
            Source::File(file) => !file.metadata().is_ok_and(|metadata| metadata.is_file()),
            Source::Reader(_) => false,
        };
        Raw { source, waits, watch, over }
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Reader(reader) => reader.read(buffer),
            Source::File(file) => loop {
                while self.waits && !readable(file)? {
                    self.watch.check()?;
                    if self.over.load(Ordering::Relaxed) {
                        return Err(io::Error::other("nobody reads on"));
                    }
                }
                match file.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            },
        }
    }
}

fn readable(file: &File) -> io::Result<bool> {
    let timeout = PollTimeout::from(LOOK.as_millis() as u16);
    match nix::poll::poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], timeout) {
        Err(nix::errno::Errno::EINTR) => Ok(false),
        ready => Ok(ready? > 0),
    }
}

/// Says of which compression an error speaks.
struct Gzip<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("the gzip stream is truncated"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                io::Error::other(format!("the gzip stream is damaged: {error}"))
            }
            _ => error,
        })
    }
}

/// Frames of zstd one after the other, those to be skipped skipped.
struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        loop {
            if !self.inside && !self.next_frame()? {
                return Ok(0);
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let decoded = self.frame.decode_blocks(&mut self.source, UptoBytes(BLOCK));
                decoded.map_err(|error| damaged(&error))?;
            }
            match self.frame.read(buffer)? {
                0 => self.end_frame()?,
                length => return Ok(length),
            }
        }
    }
}

impl<R: BufRead> Zstd<R> {
    /// False at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::Error::other("the zstd stream is truncated"));
                    }
                }
                Err(error) => return Err(damaged(&error)),
            }
        }
    }

    fn end_frame(&mut self) -> io::Result<()> {
        self.inside = false;
        match (self.frame.get_checksum_from_data(), self.frame.get_calculated_checksum()) {
            (Some(recorded), Some(calculated)) if recorded != calculated => {
                Err(io::Error::other("the zstd stream is damaged: its checksum is another"))
            }
            _ => Ok(()),
        }
    }
}

fn damaged(error: &FrameDecoderError) -> io::Error {
    io::Error::other(format!("the zstd stream is damaged or truncated: {error}"))
}

/// The plain stream, as the consumer reads it.
pub(super) struct Blocks<'a> {
    feed: Feed<'a>,
    block: Vec<u8>,
    at: usize,
    last: bool,
}

enum Feed<'a> {
    Disk { file: File, stop: &'a AtomicBool },
    Thread { filled: Receiver<Vec<u8>>, emptied: SyncSender<Vec<u8>> },
}

impl<'a> Blocks<'a> {
    fn new(feed: Feed<'a>) -> Self {
        Blocks { feed, block: Vec::new(), at: 0, last: false }
    }

    fn next(&mut self) -> io::Result<()> {
        match &mut self.feed {
            Feed::Disk { stop, .. } if stop.load(Ordering::Relaxed) => {
                return Err(io::Error::other("interrupted"));
            }
            Feed::Disk { file, .. } => {
                self.block.resize(BLOCK, 0);
                let length = read_full(file, &mut self.block)?;
                self.block.truncate(length);
            }
            Feed::Thread { filled, emptied } => {
                let next = filled.recv().map_err(|_| io::Error::other("the source failed"))?;
                // The feeder may be gone already, with nothing more to read into it.
                let _ = emptied.send(std::mem::replace(&mut self.block, next));
            }
        }
        self.at = 0;
        self.last = self.block.is_empty();
        Ok(())
    }
}

impl BufRead for Blocks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() && !self.last {
            self.next()?;
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut block = self.fill_buf()?;
        let read = block.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
