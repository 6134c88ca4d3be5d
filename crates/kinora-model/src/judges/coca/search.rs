//! Which words follow which: greedy, or a search along several beams in groups.
//!
//! Both are those of open_clip's `generate`. Its beams sum the network's raw outputs, not their
//! logarithmic probabilities, and what is published was made so; here too.

use super::Decoding;

/// The special tokens of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) pad: usize,
}

/// The texts of one picture that are being written, and what to do next.
#[derive(Clone, Debug)]
pub(super) enum Search {
    Greedy(Greedy),
    Beams(BeamSearch),
}

impl Search {
    pub(super) fn new(decoding: &Decoding, marks: Marks) -> Self {
        match decoding.beams {
            None => Search::Greedy(Greedy::new(decoding, marks)),
            Some(_) => Search::Beams(BeamSearch::new(decoding, marks)),
        }
    }

    /// The last token of every text, and the text it goes on from, counted within the picture.
    pub(super) fn last(&self) -> (Vec<usize>, Vec<usize>) {
        match self {
            Search::Greedy(greedy) => (vec![greedy.text[greedy.text.len() - 1]], vec![0]),
            Search::Beams(beams) => {
                let last = beams.texts.iter().map(|text| text[text.len() - 1]);
                (last.collect(), beams.from.clone())
            }
        }
    }

    /// Takes what may follow each text, one row of outputs after the other.
    pub(super) fn step(&mut self, outputs: &[f32]) {
        match self {
            Search::Greedy(greedy) => greedy.step(outputs),
            Search::Beams(beams) => beams.step(outputs),
        }
    }

    /// Whether nothing more can come.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Search::Greedy(greedy) => greedy.is_done(),
            Search::Beams(beams) => beams.is_done(),
        }
    }

    /// The text, with the tokens that begin and end it where it has them.
    pub(super) fn finish(self) -> Vec<usize> {
        match self {
            Search::Greedy(greedy) => greedy.text,
            Search::Beams(beams) => beams.finish(),
        }
    }
}

/// The likeliest token every time.
#[derive(Clone, Debug)]
pub(super) struct Greedy {
    text: Vec<usize>,
    marks: Marks,
    seq_len: usize,
    min_seq_len: usize,
}

impl Greedy {
    fn new(decoding: &Decoding, marks: Marks) -> Self {
        Greedy {
            text: vec![marks.start],
            marks,
            seq_len: decoding.seq_len,
            min_seq_len: decoding.min_seq_len,
        }
    }

    fn is_done(&self) -> bool {
        let last = self.text[self.text.len() - 1];
        self.text.len() >= self.seq_len || last == self.marks.end || last == self.marks.pad
    }

    fn step(&mut self, outputs: &[f32]) {
        let Marks { end, .. } = self.marks;
        if self.is_done() {
            return;
        }
        if self.text.len() + 1 == self.seq_len {
            return self.text.push(end);
        }
        let too_short = self.text.len() < self.min_seq_len;
        let allowed = outputs.iter().enumerate();
        let allowed = allowed.filter(|(token, _)| !(too_short && *token == end));
        // The first of equals.
        let best = allowed.fold((end, f32::NEG_INFINITY), |best, (token, score)| {
            match *score > best.1 {
                true => (token, *score),
                false => best,
            }
        });
        self.text.push(best.0);
    }
}

/// A text that has ended, and its mean score.
#[derive(Clone, Debug)]
struct Ended {
    score: f64,
    text: Vec<usize>,
}

/// The best texts of a group that have ended, and whether it can still find better ones.
#[derive(Clone, Debug)]
struct Group {
    ended: Vec<Ended>,
    worst: f64,
    done: bool,
}

impl Group {
    /// Keeps the text if it is among the best `size`.
    fn add(&mut self, size: usize, text: Vec<usize>, sum: f64, len: usize) {
        let score = sum / len as f64;
        if self.ended.len() >= size && score <= self.worst {
            return;
        }
        self.ended.push(Ended { score, text });
        if self.ended.len() <= size {
            self.worst = self.worst.min(score);
            return;
        }
        let worst = |ended: &[Ended]| {
            let scores = ended.iter().map(|ended| ended.score).enumerate();
            scores.min_by(|a, b| a.1.total_cmp(&b.1))
        };
        if let Some((at, _)) = worst(&self.ended) {
            self.ended.remove(at);
        }
        self.worst = worst(&self.ended).map_or(f64::INFINITY, |(_, score)| score);
    }
}

/// Several texts at once, in groups that do not share what they find.
#[derive(Clone, Debug)]
pub(super) struct BeamSearch {
    texts: Vec<Vec<usize>>,
    sums: Vec<f32>,
    from: Vec<usize>,
    groups: Vec<Group>,
    size: usize,
    marks: Marks,
    seq_len: usize,
    min_seq_len: usize,
}

/// What a beam that is not the first of its group begins with, so that the beams differ.
const BEHIND: f32 = -1e9;

impl BeamSearch {
    fn new(decoding: &Decoding, marks: Marks) -> Self {
        let beams = decoding.beams.unwrap_or_default();
        let size = beams.beams / beams.groups;
        let sums = (0..beams.beams).map(|beam| match beam % size {
            0 => 0.0,
            _ => BEHIND,
        });
        let group = Group {
            ended: Vec::new(),
            worst: 1e9,
            done: false,
        };
        BeamSearch {
            texts: vec![vec![marks.start]; beams.beams],
            sums: sums.collect(),
            from: (0..beams.beams).collect(),
            groups: vec![group; beams.groups],
            size,
            marks,
            seq_len: decoding.seq_len,
            min_seq_len: decoding.min_seq_len,
        }
    }

    fn is_done(&self) -> bool {
        self.texts[0].len() >= self.seq_len || self.groups.iter().all(|group| group.done)
    }

    fn step(&mut self, outputs: &[f32]) {
        if self.is_done() {
            return;
        }
        let vocabulary = outputs.len() / self.texts.len();
        let before = self.texts.clone();
        for group in 0..self.groups.len() {
            let first = group * self.size;
            if self.groups[group].done {
                for beam in first..first + self.size {
                    self.texts[beam].push(self.marks.pad);
                    self.sums[beam] = 0.0;
                    self.from[beam] = beam;
                }
                continue;
            }
            let rows = &outputs[first * vocabulary..(first + self.size) * vocabulary];
            let best = self.best(rows, first, vocabulary, before[0].len());
            self.advance(group, &before, &best);
        }
    }

    /// The best continuations of a group, twice as many as it has beams, so that enough are left where
    /// half of them end: score, beam, token, best first.
    fn best(
        &self,
        rows: &[f32],
        first: usize,
        vocabulary: usize,
        len: usize,
    ) -> Vec<(f32, usize, usize)> {
        let wanted = 2 * self.size;
        let too_short = len < self.min_seq_len;
        let mut best: Vec<(f32, usize, usize)> = Vec::with_capacity(wanted + 1);
        for (k, row) in rows.chunks_exact(vocabulary).enumerate() {
            for (token, output) in row.iter().enumerate() {
                let score = match too_short && token == self.marks.end {
                    true => f32::NEG_INFINITY,
                    false => output + self.sums[first + k],
                };
                if best.len() == wanted && best[wanted - 1].0 >= score {
                    continue;
                }
                let at = best.partition_point(|other| other.0 >= score);
                best.insert(at, (score, first + k, token));
                best.truncate(wanted);
            }
        }
        best
    }

    /// The texts that ended are put aside, the others go on.
    fn advance(&mut self, group: usize, before: &[Vec<usize>], best: &[(f32, usize, usize)]) {
        let (first, len) = (group * self.size, before[0].len() + 1);
        let mut next = first;
        for (rank, &(score, beam, token)) in best.iter().enumerate() {
            if token == self.marks.end {
                if rank < self.size {
                    let text = before[beam].clone();
                    self.groups[group].add(self.size, text, f64::from(score), len);
                }
                continue;
            }
            let mut text = before[beam].clone();
            text.push(token);
            self.texts[next] = text;
            self.sums[next] = score;
            self.from[next] = beam;
            next += 1;
            if next == first + self.size {
                break;
            }
        }
        // The heuristic of the reference: a text as good as the best there is now, ending now.
        let attainable = best
            .first()
            .map_or(f64::NEG_INFINITY, |best| f64::from(best.0))
            / len as f64;
        let group = &mut self.groups[group];
        group.done = group.ended.len() >= self.size && group.worst >= attainable;
    }

    fn finish(mut self) -> Vec<usize> {
        for group in 0..self.groups.len() {
            if self.groups[group].done {
                continue;
            }
            for beam in group * self.size..(group + 1) * self.size {
                let text = self.texts[beam].clone();
                let (sum, len) = (f64::from(self.sums[beam]), text.len());
                self.groups[group].add(self.size, text, sum, len);
            }
        }
        let ended = self.groups.into_iter().flat_map(|group| group.ended);
        // Of equals the last, as the reference takes it.
        let best = ended.max_by(|a, b| a.score.total_cmp(&b.score));
        let mut text = best.map_or(vec![self.marks.start], |best| best.text);
        if text.len() < self.seq_len {
            text.push(self.marks.end);
        }
        text
    }
}
