//! The two streams of the test machine. One of them does what it is given at once, the other as late as
//! it may: only when something waits for it. Whatever is not waited for that should be is then seen in
//! the result: with [`Order::WorkFirst`] a copy that no one waited for has not happened, with
//! [`Order::CopiesFirst`] memory is written anew before the work that reads it.

use super::engine::Recorded;
use super::host::Host;
use super::host_products::{Convolution, Multiplication};
use super::launch::{Argument, Grid, Kernel};
use super::streams::{Event, Stream};
use crate::Result;
use std::collections::{HashSet, VecDeque};

/// Which stream is early, and which late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Work is done at once; copies when something waits for them.
    WorkFirst,
    /// Copies are done at once; work when something waits for it.
    CopiesFirst,
}

/// What a stream is given.
#[derive(Clone, Debug)]
pub(super) enum Task {
    /// An array has a new owner: it holds NaN.
    Fresh(u64),
    /// It has none any more: the bytes around it must be untouched.
    Check(u64),
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
    Launch(Kernel, Grid, Vec<Argument>),
    Multiply(Multiplication),
    Convolve(Convolution),
    Record(u64),
    Wait(u64),
}

/// What was captured.
pub(crate) struct Recording(Vec<Task>);

#[derive(Debug)]
pub(super) struct Streams {
    order: Order,
    queues: [VecDeque<Task>; 2],
    /// A stream that is in the middle of its queue.
    busy: [bool; 2],
    next_event: u64,
    done: HashSet<u64>,
    capture: Option<Vec<Task>>,
}

impl Streams {
    pub(super) fn new(order: Order) -> Self {
        Streams {
            order,
            queues: [VecDeque::new(), VecDeque::new()],
            busy: [false; 2],
            next_event: 0,
            done: HashSet::new(),
            capture: None,
        }
    }
}

impl Host {
    /// Gives a task to a stream.
    pub(super) fn submit(&self, stream: Stream, task: Task) -> Result<()> {
        let mut streams = self.streams();
        match &mut streams.capture {
            // Arrays that end while work is captured may be others' when it is replayed.
            Some(_) if matches!(task, Task::Check(_)) => {}
            Some(capture) if stream == Stream::Work => capture.push(task),
            _ => streams.queues[stream as usize].push_back(task),
        }
        let early = match streams.order {
            Order::WorkFirst => Stream::Work,
            Order::CopiesFirst => Stream::Copies,
        };
        self.advance(&mut streams, early, None)
    }

    /// Does what a stream was given, all of it or up to an event.
    fn advance(&self, streams: &mut Streams, stream: Stream, until: Option<u64>) -> Result<()> {
        if streams.queues[stream as usize].is_empty() {
            return Ok(());
        }
        if std::mem::replace(&mut streams.busy[stream as usize], true) {
            return Err(self.failed("the two streams wait for one another"));
        }
        let outcome = self.work_through(streams, stream, until);
        streams.busy[stream as usize] = false;
        outcome
    }

    fn work_through(
        &self,
        streams: &mut Streams,
        stream: Stream,
        until: Option<u64>,
    ) -> Result<()> {
        while let Some(task) = streams.queues[stream as usize].pop_front() {
            match task {
                Task::Record(event) => {
                    streams.done.insert(event);
                    if until == Some(event) {
                        break;
                    }
                }
                Task::Wait(event) => self.reach(streams, event)?,
                task => self.run(&task)?,
            }
        }
        Ok(())
    }

    /// Lets both streams do what leads to an event.
    fn reach(&self, streams: &mut Streams, event: u64) -> Result<()> {
        let of = |stream: Stream, streams: &Streams| {
            let queue = &streams.queues[stream as usize];
            let found = queue
                .iter()
                .any(|task| matches!(task, Task::Record(e) if *e == event));
            found.then_some(stream)
        };
        if streams.done.contains(&event) {
            return Ok(());
        }
        let stream = of(Stream::Work, streams).or_else(|| of(Stream::Copies, streams));
        let stream = stream.ok_or_else(|| self.failed("an event that nobody records"))?;
        self.advance(streams, stream, Some(event))
    }

    pub(super) fn record(&self, stream: Stream) -> Result<Event> {
        let event = {
            let mut streams = self.streams();
            streams.next_event += 1;
            streams.next_event
        };
        self.submit(stream, Task::Record(event))?;
        Ok(Event::Host(event))
    }

    pub(super) fn wait(&self, stream: Stream, event: &Event) -> Result<()> {
        self.submit(stream, Task::Wait(number(event)))
    }

    pub(super) fn finish(&self, event: &Event) -> Result<()> {
        self.reach(&mut self.streams(), number(event))
    }

    /// Waits for all of a stream.
    pub(super) fn finish_all(&self, stream: Stream) -> Result<()> {
        self.advance(&mut self.streams(), stream, None)
    }

    pub(super) fn begin_capture(&self) -> Result<()> {
        self.streams().capture = Some(Vec::new());
        Ok(())
    }

    pub(super) fn end_capture(&self) -> Result<Recorded> {
        let tasks = self.streams().capture.take();
        let tasks = tasks.ok_or_else(|| self.failed("no capture was begun"))?;
        Ok(Recorded::Host(Recording(tasks)))
    }

    pub(super) fn replay(&self, recording: &Recording) -> Result<()> {
        let mut tasks = recording.0.iter().cloned();
        tasks.try_for_each(|task| self.submit(Stream::Work, task))
    }
}

fn number(event: &Event) -> u64 {
    match event {
        Event::Host(number) => *number,
        Event::Card(_) => unreachable!("events are waited for on the board that made them"),
    }
}
