//! A card's two streams: copies, events between them, and work captured as a graph.

use super::super::streams::{Event as AnyEvent, Pinned, Stream};
use super::Card;
use crate::Result;
use cudarc::driver::result;
use cudarc::driver::sys;

/// Of the driver; whatever it guards stays guarded when the handle goes.
pub(crate) struct Event(sys::CUevent);

// SAFETY: the driver takes its handles from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Event {}
#[allow(unsafe_code)] // As above.
unsafe impl Sync for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event was made by `record`, and ends here. A stream that waits for it goes on
        // waiting.
        #[allow(unsafe_code)]
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// A graph that the driver has made ready to start.
pub(crate) struct Executable {
    handle: sys::CUgraphExec,
    stream: sys::CUstream,
}

// SAFETY: as above; it is started under the caller's order like any other work.
#[allow(unsafe_code)]
unsafe impl Send for Executable {}
#[allow(unsafe_code)] // As above.
unsafe impl Sync for Executable {}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: the handle was made by `end_capture` and ends here, when no replay is in flight.
        #[allow(unsafe_code)]
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::graph::exec_destroy(self.handle);
        }
    }
}

fn handle(event: &AnyEvent) -> sys::CUevent {
    match event {
        AnyEvent::Card(event) => event.0,
        #[cfg(any(test, feature = "host-machine"))]
        AnyEvent::Host(_) => unreachable!("events are waited for on the board that made them"),
    }
}

impl Card {
    fn stream_of(&self, stream: Stream) -> sys::CUstream {
        match stream {
            Stream::Work => self.stream,
            Stream::Copies => self.copies,
        }
    }

    /// Memory of the processor that the card reads by itself.
    pub(in crate::cuda) fn pinned(&self, bytes: usize) -> Result<Pinned> {
        self.make_current()?;
        // SAFETY: the memory has this length, is nobody else's and is never freed.
        #[allow(unsafe_code)]
        unsafe {
            let start = result::malloc_host(bytes, 0).map_err(|error| self.told(error))?;
            Ok(Pinned::new(start.cast(), bytes))
        }
    }

    pub(in crate::cuda) fn copy_in(
        &self,
        stream: Stream,
        from: &Pinned,
        to: u64,
        bytes: usize,
    ) -> Result<()> {
        self.make_current()?;
        // SAFETY: both stretches have this length; the buffer is not written before an event behind
        // this copy is done, and the array is given up only behind the stream that writes it.
        #[allow(unsafe_code)]
        unsafe {
            let from = std::slice::from_raw_parts(from.start(), bytes);
            result::memcpy_htod_async(to, from, self.stream_of(stream))
        }
        .map_err(|error| self.told(error))
    }

    pub(in crate::cuda) fn download(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.make_current()?;
        // SAFETY: the stretch has this length, and the stream is waited for before `bytes` is read.
        #[allow(unsafe_code)]
        unsafe {
            result::memcpy_dtoh_async(bytes, address, self.stream)
                .and_then(|()| result::stream::synchronize(self.stream))
                .map_err(|error| self.told(error))
        }
    }

    pub(in crate::cuda) fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.make_current()?;
        // SAFETY: both arrays have this length, and live until the copy is queued.
        #[allow(unsafe_code)]
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }
            .map_err(|error| self.told(error))
    }

    pub(in crate::cuda) fn record(&self, stream: Stream) -> Result<AnyEvent> {
        self.make_current()?;
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let event = result::event::create(untimed).map_err(|error| self.told(error))?;
        let event = Event(event);
        // SAFETY: the event was just made; streams live as long as the program.
        #[allow(unsafe_code)]
        unsafe { result::event::record(event.0, self.stream_of(stream)) }
            .map_err(|error| self.told(error))?;
        Ok(AnyEvent::Card(event))
    }

    pub(in crate::cuda) fn wait(&self, stream: Stream, event: &AnyEvent) -> Result<()> {
        self.make_current()?;
        let plain = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the event is alive; streams live as long as the program.
        #[allow(unsafe_code)]
        unsafe { result::stream::wait_event(self.stream_of(stream), handle(event), plain) }
            .map_err(|error| self.told(error))
    }

    pub(in crate::cuda) fn finish(&self, event: &AnyEvent) -> Result<()> {
        self.make_current()?;
        // SAFETY: the event is alive.
        #[allow(unsafe_code)]
        unsafe { result::event::synchronize(handle(event)) }.map_err(|error| self.told(error))
    }

    pub(in crate::cuda) fn begin_capture(&self) -> Result<()> {
        self.make_current()?;
        // What would break the graph is refused before it comes here. The driver's stricter modes
        // also refuse what does not: memory asked for while work is written down.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives as long as the program.
        #[allow(unsafe_code)]
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| self.told(error))
    }

    pub(in crate::cuda) fn end_capture(&self) -> Result<super::super::engine::Recorded> {
        self.make_current()?;
        // SAFETY: a capture was begun on the stream; the graph is only the executable's origin.
        #[allow(unsafe_code)]
        let handle = unsafe {
            result::stream::end_capture(self.stream).and_then(|graph| {
                let made = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0));
                result::graph::destroy(graph).and(made)
            })
        };
        Ok(super::super::engine::Recorded::Card(Executable {
            handle: handle.map_err(|error| self.told(error))?,
            stream: self.stream,
        }))
    }

    pub(in crate::cuda) fn replay(&self, executable: &Executable) -> Result<()> {
        self.make_current()?;
        // SAFETY: the executable is alive, and so is all it was captured with.
        #[allow(unsafe_code)]
        unsafe { result::graph::launch(executable.handle, self.stream) }
            .map_err(|error| self.told(error))
    }
}
