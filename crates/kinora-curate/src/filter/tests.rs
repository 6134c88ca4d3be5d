use super::*;
use kinora_media::{Status, read_table, write_table};

/// Clips whose motion, likeness and aesthetics run through 0…n−1 in three different orders.
fn clips(count: usize) -> Vec<ClipRow> {
    let mixed = |index: usize, factor: usize| ((index * factor) % count) as f32;
    (0..count)
        .map(|index| ClipRow {
            clip_id: format!("{index:06}"),
            end_frame: 48,
            end_s: 2.0,
            fps: 24.0,
            width: 640,
            height: 360,
            motion_score: Some(mixed(index, 1)),
            clip_similarity: Some(mixed(index, 7)),
            aesthetic: Some(mixed(index, 11)),
            text_area: Some(0.0),
            ..ClipRow::default()
        })
        .collect()
}

fn only(change: impl FnOnce(&mut FilterSettings)) -> FilterSettings {
    let mut settings = FilterSettings::none();
    change(&mut settings);
    settings
}

fn kept(clips: &[ClipRow], settings: &FilterSettings) -> usize {
    let filtered = filter(clips, settings).unwrap();
    filtered
        .verdicts
        .iter()
        .filter(|verdict| verdict.keeps())
        .count()
}

#[test]
fn a_share_of_different_values_falls_exactly() {
    let clips = clips(1000);
    for percent in [0.0, 12.5, 25.0, 50.0, 99.9] {
        let left = 1000 - (10.0 * percent) as usize;
        let lowest = only(|settings| settings.motion_score = Rule::lowest(percent));
        assert_eq!(kept(&clips, &lowest), left, "lowest {percent} %");
        let highest = only(|settings| settings.motion_score.drop_highest_percent = Some(percent));
        assert_eq!(kept(&clips, &highest), left, "highest {percent} %");
    }
    let lowest = only(|settings| settings.motion_score = Rule::lowest(25.0));
    let threshold = filter(&clips, &lowest).unwrap().thresholds.axes()[3];
    assert_eq!(
        (threshold.axis, threshold.low),
        (Axis::MotionScore, Some(250.0))
    );
}

#[test]
fn equal_values_share_a_fate() {
    let mut clips = clips(100);
    for clip in &mut clips[..60] {
        clip.motion_score = Some(0.0);
    }
    let lowest = |percent| only(|settings| settings.motion_score = Rule::lowest(percent));
    assert_eq!(kept(&clips, &lowest(25.0)), 100);
    assert_eq!(kept(&clips, &lowest(60.0)), 40);
    assert_eq!(kept(&[], &lowest(60.0)), 0);
    assert_eq!(kept(&clips[..1], &lowest(60.0)), 1);
}

#[test]
fn the_papers_rules_are_measured_each_by_itself() {
    let clips = clips(1000);
    let filtered = filter(&clips, &FilterSettings::default()).unwrap();
    let fallen = |axis| {
        let causes = filtered.verdicts.iter().flat_map(Verdict::causes);
        causes.filter(|cause| **cause == Cause::Axis(axis)).count()
    };
    assert_eq!(fallen(Axis::MotionScore), 250);
    assert_eq!(fallen(Axis::ClipSimilarity), 500);
    assert_eq!(fallen(Axis::Aesthetic), 250);
    assert_eq!(fallen(Axis::TextArea), 0);
    // The order of the clips changes nothing.
    let mut turned = clips.clone();
    turned.reverse();
    let again = filter(&turned, &FilterSettings::default()).unwrap();
    assert!(again.verdicts.iter().rev().eq(&filtered.verdicts));
    // A clip that falls to several rules names them in the order of asking.
    let both = filtered.verdicts[0].drop_row("000000").unwrap();
    assert_eq!(both.rule, "motion_score");
    assert_eq!(both.rules, "motion_score,clip_similarity,aesthetic");
}

#[test]
fn text_at_the_bound_stays_and_above_it_goes() {
    let mut clips = clips(3);
    let above = f32::from_bits(0.07_f32.to_bits() + 1);
    for (clip, area) in clips.iter_mut().zip([0.07, above, 0.0]) {
        clip.text_area = Some(area);
    }
    let settings = only(|settings| settings.text_area = Rule::above(0.07));
    let filtered = filter(&clips, &settings).unwrap();
    let keeps: Vec<bool> = filtered.verdicts.iter().map(Verdict::keeps).collect();
    assert_eq!(keeps, [true, false, true]);
}

#[test]
fn what_nobody_judged_takes_nobody_out_and_what_some_lack_does() {
    let mut clips = clips(100);
    for clip in &mut clips {
        (clip.clip_similarity, clip.aesthetic) = (None, None);
    }
    let settings = FilterSettings::default();
    assert_eq!(kept(&clips, &settings), 75);
    clips[99].motion_score = None;
    clips[98].motion_score = Some(f32::NAN);
    let filtered = filter(&clips, &settings).unwrap();
    assert_eq!(
        filtered.verdicts[99].causes(),
        [Cause::Missing(Axis::MotionScore)]
    );
    assert_eq!(
        filtered.verdicts[98].causes(),
        [Cause::Missing(Axis::MotionScore)]
    );
    assert_eq!(filtered.thresholds.axes()[3].missing, 2);
    let keep = FilterSettings {
        missing: Missing::Keep,
        ..settings
    };
    assert!(filter(&clips, &keep).unwrap().verdicts[99].keeps());
}

#[test]
fn failed_clips_go_and_move_no_threshold() {
    let mut clips = clips(100);
    for clip in &mut clips[..50] {
        clip.status = Status::Failed;
    }
    clips[50].status = Status::Partial;
    let settings = only(|settings| settings.motion_score = Rule::lowest(50.0));
    let filtered = filter(&clips, &settings).unwrap();
    assert_eq!(filtered.thresholds.axes()[3].low, Some(75.0));
    assert_eq!(filtered.verdicts[0].causes(), [Cause::Failed]);
    assert_eq!(kept(&clips, &settings), 25);
}

#[test]
fn clips_without_a_caption_go_where_one_is_asked_for() {
    let mut clips = clips(2);
    clips[1].caption_video = Some("a boat".to_owned());
    let settings = only(|settings| settings.require_caption = true);
    let filtered = filter(&clips, &settings).unwrap();
    assert_eq!(filtered.verdicts[0].causes(), [Cause::NoCaption]);
    assert!(filtered.verdicts[1].keeps());
}

#[test]
fn a_table_is_filtered_as_its_rows_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut clips = clips(500);
    clips[7].embeddings = Some(vec![1.0; 8]);
    write_table(&at("clips.parquet"), &clips).unwrap();
    let settings = FilterSettings::default();
    let mut seen = Vec::new();
    let summary = filter_table(
        &at("clips.parquet"),
        &at("kept.parquet"),
        &at("dropped.parquet"),
        &settings,
        &mut |_, verdict| seen.push(verdict.clone()),
    )
    .unwrap();
    let filtered = filter(&clips, &settings).unwrap();
    assert_eq!(seen, filtered.verdicts);
    clips[7].embeddings = None;
    let judged = || clips.iter().zip(&filtered.verdicts);
    let expected: Vec<ClipRow> = judged()
        .filter(|(_, verdict)| verdict.keeps())
        .map(|(clip, _)| clip.clone())
        .collect();
    assert_eq!(
        read_table::<ClipRow>(&at("kept.parquet")).unwrap(),
        expected
    );
    let dropped: Vec<DropRow> = judged()
        .filter_map(|(clip, verdict)| verdict.drop_row(&clip.clip_id))
        .collect();
    assert_eq!(
        read_table::<DropRow>(&at("dropped.parquet")).unwrap(),
        dropped
    );
    assert_eq!((summary.clips, summary.kept), (500, expected.len() as u64));
    let first: u64 = summary.causes.iter().map(|count| count.first).sum();
    assert_eq!(first, dropped.len() as u64);
    let likeness = summary
        .causes
        .iter()
        .find(|count| count.cause == "clip_similarity")
        .unwrap();
    assert_eq!(likeness.all, 250);
}

#[test]
fn settings_are_read_from_toml_over_the_papers() {
    let settings: FilterSettings = toml::from_str(
        "motion_score = { drop_lowest_percent = 12.5 }\naesthetic = {}\n[captions]\nimage = 1.0\nvideo = 0.0\nmerged = 0.0\n",
    )
    .unwrap();
    assert_eq!(settings.motion_score, Rule::lowest(12.5));
    assert!(settings.aesthetic.is_idle());
    assert_eq!(settings.clip_similarity, Rule::lowest(50.0));
    assert_eq!(settings.captions.video, 0.0);
    let again: FilterSettings = toml::from_str(&toml::to_string(&settings).unwrap()).unwrap();
    assert_eq!(again, settings);
    assert!(toml::from_str::<FilterSettings>("speed = {}").is_err());
    assert!(toml::from_str::<FilterSettings>("fps = { below = 3 }").is_err());
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let refused = |rule: Rule, words: &str| {
        let settings = only(|settings| settings.aesthetic = rule);
        let message = settings.check().unwrap_err().to_string();
        assert!(
            message.contains("filter.aesthetic") && message.contains(words),
            "{message}"
        );
    };
    refused(Rule::lowest(100.0), "found 100");
    refused(Rule::lowest(f64::NAN), "found NaN");
    refused(
        Rule {
            drop_highest_percent: Some(60.0),
            ..Rule::lowest(40.0)
        },
        "leave no clip",
    );
    refused(
        Rule {
            drop_below: Some(1.0),
            ..Rule::lowest(40.0)
        },
        "keep one",
    );
    refused(
        Rule {
            drop_highest_percent: Some(1.0),
            ..Rule::above(1.0)
        },
        "keep one",
    );
    refused(
        Rule {
            drop_below: Some(2.0),
            ..Rule::above(1.0)
        },
        "no value between",
    );
    refused(Rule::above(f64::INFINITY), "expected a number");
}
