use super::*;
use crate::filter::{FilterSettings, filter};
use kinora_media::{ClipRow, SourceRow, Status};

fn clips() -> Vec<ClipRow> {
    (0..40u32)
        .map(|index| ClipRow {
            clip_id: format!("{index:04x}"),
            source: format!("v/{}.mp4", index / 10),
            end_frame: 48,
            end_s: 2.0,
            fps: 24.0,
            width: 640,
            height: 360,
            motion_score: Some(index as f32 / 40.0),
            text_area: Some(if index % 10 == 9 { 0.2 } else { 0.0 }),
            caption_image: Some("a <b>bold</b> & \"quoted\" caption".to_owned()),
            reason: (index == 3).then(|| "<script>alert(1)</script>".to_owned()),
            status: if index == 3 {
                Status::Partial
            } else {
                Status::Ok
            },
            ..ClipRow::default()
        })
        .collect()
}

fn sources() -> Vec<SourceRow> {
    let failed = SourceRow {
        source: "v/bad.mp4".to_owned(),
        status: Status::Failed,
        reason: Some("no video stream\u{1b}[31m".to_owned()),
        ..SourceRow::default()
    };
    vec![SourceRow::default(), failed]
}

fn picture(id: &str) -> Option<Rgb8Image> {
    (id != "0000").then(|| Rgb8Image::from_fn(32, 18, |x, y| [x as u8, y as u8, 0]))
}

fn tally() -> Tally {
    let clips = clips();
    Tally::of(
        &clips,
        &sources(),
        &filter(&clips, &FilterSettings::default()).unwrap(),
    )
}

fn costs() -> Vec<StepCost> {
    let cost = |step: &str, cpu_s| StepCost {
        step: step.to_owned(),
        items: 40,
        cpu_s,
        wall_s: cpu_s,
    };
    vec![cost("decode", 10.0), cost("cuts", 2.5)]
}

fn report(show: &dyn Fn(&Report<'_>) -> String) -> String {
    show(&Report {
        title: "a <title>",
        tally: &tally(),
        costs: &costs(),
        decode_cpu_s: Some(10.0),
        thumbnail: &picture,
    })
}

#[test]
fn the_papers_table_is_counted_before_and_after() {
    let tally = tally();
    // 25 % most static of 40 fall to motion; 4 have text, one of them is among those.
    assert_eq!((tally.before.clips, tally.after.clips), (40, 27));
    assert_eq!(tally.before.mean_seconds(), 2.0);
    assert_eq!(tally.before.mean_frames(), 48.0);
    assert_eq!(tally.before.clips_per_video(), 10.0);
    assert_eq!(tally.after.clips_per_video(), 9.0);
    assert_eq!(tally.after.seconds, 54.0);
    assert_eq!((tally.sources, tally.failed_sources), (2, 1));
    let fallen: Vec<_> = tally
        .fallen
        .values()
        .map(|fallen| (fallen.first, fallen.all))
        .collect();
    assert_eq!(fallen, [(10, 10), (3, 4)]);
}

#[test]
fn a_sample_does_not_depend_on_the_order() {
    let mut turned = clips();
    turned.reverse();
    let filtered = filter(&turned, &FilterSettings::default()).unwrap();
    let again = Tally::of(&turned, &sources(), &filtered);
    let ids = |tally: &Tally| -> Vec<String> {
        tally
            .kept
            .shown()
            .map(|shown| shown.clip_id.clone())
            .collect()
    };
    assert_eq!(ids(&again), ids(&tally()));
    assert_eq!(ids(&again).len(), 12);
}

#[test]
fn the_page_is_whole_asks_for_nothing_and_holds_no_foreign_markup() {
    let page = report(&report_html);
    assert_eq!(page, report(&report_html));
    for words in [
        "a &lt;title&gt;",
        "&lt;script&gt;alert(1)",
        "a &lt;b&gt;bold&lt;/b&gt; &amp; &quot;quoted",
        "not judged: no weights given",
        "no video stream",
        "kept from 0.25",
        "kept up to 0.07",
        "data:image/jpeg;base64,/9j/",
        // Contact sheets of the kept and of the removed by each rule.
        "<summary>Kept<span>27 clips",
        "<summary>Taken out: motion<span>10 clips",
        "<summary>Taken out: text<span>4 clips",
        // Bars before and after filtering.
        "class=\"before\"",
        "class=\"after\"",
        "25.0 %",
    ] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    for words in [
        "<script", "<b>bold", "http://", "https://", "src=\"/", "url(", "NaN", "inf ",
    ] {
        assert!(!page.contains(words), "{words} is on the page");
    }
    // Every tag that was opened is closed.
    for tag in [
        "div", "table", "tr", "td", "svg", "g", "figure", "details", "main", "p", "b",
    ] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn nothing_at_all_makes_a_page_too() {
    let tally = Tally::of(&[], &[], &filter(&[], &FilterSettings::default()).unwrap());
    let empty = Report {
        title: "empty",
        tally: &tally,
        costs: &[],
        decode_cpu_s: None,
        thumbnail: &|_| None,
    };
    let page = report_html(&empty);
    assert!(
        page.contains("Nothing failed.") && !page.contains("NaN"),
        "{page}"
    );
}
