//! Thresholds that decide what stays (paper, §3.3, App. E.2.2).
