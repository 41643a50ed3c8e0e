//! The house keeps itself in order: this suite reads every source file and fails on what breaks the
//! rules.
//!
//! Each rule is a pure function from files to violations, tested on text that breaks it; the tests
//! here apply them to the workspace. The table of floors is in `tidy/floors.rs`, the limits in
//! `tidy/limits.rs`, licences and doubled dependencies in `deny.toml`. Nothing is exempt in
//! silence: each exception is named where it is allowed.

mod dependencies;
mod floors;
mod limits;
mod modules;
mod source;
mod text;
mod words;

use source::{Source, workspace};

/// Fails with every violation at once.
fn assert_clean(violations: Vec<String>) {
    let count = violations.len();
    assert!(
        violations.is_empty(),
        "{count} violations:\n{}",
        violations.join("\n")
    );
}

fn each(rule: fn(&Source) -> Vec<String>) -> Vec<String> {
    workspace().iter().flat_map(rule).collect()
}

#[test]
fn imports_go_down() {
    assert_clean(each(floors::imports));
}

#[test]
fn the_table_of_floors_is_the_house() {
    assert_clean(floors::table(workspace()));
}

#[test]
fn the_format_and_the_sorter_are_pure() {
    assert_clean(each(floors::purity));
}

#[test]
fn files_are_short() {
    assert_clean(each(limits::file_lines));
}

#[test]
fn functions_are_short() {
    assert_clean(each(limits::function_lines));
}

#[test]
fn lines_are_narrow() {
    assert_clean(each(limits::columns));
}

#[test]
fn files_begin_with_what_they_are() {
    assert_clean(each(limits::head));
}

#[test]
fn only_the_clock_reads_the_time() {
    assert_clean(each(words::clock));
}

#[test]
fn only_the_command_line_prints() {
    assert_clean(each(words::printing));
}

#[test]
fn unsafe_code_lives_in_named_files() {
    assert_clean(each(words::unsafe_code));
}

#[test]
fn nothing_is_left_to_do() {
    assert_clean(each(words::unfinished));
}

#[test]
fn names_say_something() {
    assert_clean(each(words::names));
}

#[test]
fn no_file_is_forgotten() {
    assert_clean(modules::forgotten(workspace()));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    assert_clean(text::machine_traces(&source::all_texts()));
}

#[test]
fn no_merge_was_left_half_done() {
    assert_clean(text::conflicts(&source::all_texts()));
}

#[test]
fn dependencies_come_from_one_place() {
    assert_clean(dependencies::sources(&dependencies::lock()));
}

#[test]
fn dependencies_are_not_doubled() {
    assert_clean(dependencies::doubled(
        &dependencies::lock(),
        &dependencies::skipped(),
    ));
}

#[test]
fn dependencies_say_what_they_are_for() {
    assert_clean(dependencies::explained(&dependencies::manifest()));
}

#[test]
fn wasmtime_is_the_long_term_release() {
    assert_clean(dependencies::wasmtime(
        &dependencies::manifest(),
        &dependencies::lock(),
    ));
}

#[test]
fn licences_are_allowed() {
    let packages = dependencies::licences();
    assert!(
        packages.len() > 50,
        "only {} packages were seen",
        packages.len()
    );
    assert_clean(dependencies::licensed(&packages, &dependencies::allowed()));
}
