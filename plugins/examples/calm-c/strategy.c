// Scheduling: no maintenance while a backup is being written.
//
// A client that writes leaves a session marker. While the newest one is younger than half an hour the
// run waits, at most until that half hour is over; what the user asks for runs at once. Else all
// that is due runs, the full cycle first, in Kopia's order.
//
// An example of what a plugin costs without a language's runtime: some 20 KB, 128 KiB of memory.
// Whoever writes C here owns the memory: what the host passes is freed by the plugin, what the
// plugin answers is freed after the call by the generated code.

#include <stdlib.h>
#include <string.h>

#include "bindings/scheduling.h"

enum { QUIET_SECONDS = 1800 };

typedef exports_careen_strategy_schedule_question_t question_t;
typedef exports_careen_strategy_schedule_decision_t decision_t;
typedef exports_careen_strategy_schedule_cycle_row_t cycle_row_t;
typedef exports_careen_strategy_schedule_task_choice_t task_choice_t;

// Kopia looks at the full cycle first.
static const cycle_row_t *cycle_of(const question_t *question) {
    for (size_t i = 0; i < question->cycles.len; i++) {
        if (question->cycles.ptr[i].cycle == EXPORTS_CAREEN_STRATEGY_SCHEDULE_CYCLE_FULL) {
            return &question->cycles.ptr[i];
        }
    }
    return question->cycles.len > 0 ? &question->cycles.ptr[0] : NULL;
}

static void wait_until(decision_t *answer, int64_t seconds) {
    answer->tag = EXPORTS_CAREEN_STRATEGY_SCHEDULE_DECISION_WAIT;
    answer->val.wait.not_before_seconds = seconds;
    scheduling_string_dup(&answer->val.wait.reason, "a backup is being written");
}

static void run(decision_t *answer, const cycle_row_t *cycle) {
    answer->tag = EXPORTS_CAREEN_STRATEGY_SCHEDULE_DECISION_RUN;
    exports_careen_strategy_schedule_run_plan_t *plan = &answer->val.run;
    plan->cycle = cycle->cycle;
    plan->tasks.len = cycle->tasks.len;
    plan->tasks.ptr = calloc(cycle->tasks.len, sizeof(task_choice_t));
    if (plan->tasks.ptr == NULL) {
        abort();
    }
    for (size_t i = 0; i < cycle->tasks.len; i++) {
        // No budget: both of its options are none.
        const scheduling_string_t *name = &cycle->tasks.ptr[i].name;
        scheduling_string_dup_n(&plan->tasks.ptr[i].name, (const char *)name->ptr, name->len);
    }
    scheduling_string_dup(&plan->reason, "no backup is being written");
}

bool exports_careen_strategy_schedule_schedule(
    question_t *question, decision_t *answer, scheduling_string_t *error) {
    const cycle_row_t *cycle = cycle_of(question);
    int64_t until = question->newest_writer_seconds.is_some
        ? question->newest_writer_seconds.val + QUIET_SECONDS
        : question->now_seconds;
    bool busy = question->writers > 0 && until > question->now_seconds;
    // A marker from the future, by the storage's clock, holds nothing back for longer.
    if (until > question->now_seconds + QUIET_SECONDS) {
        until = question->now_seconds + QUIET_SECONDS;
    }
    bool answered = cycle != NULL;
    if (busy && !question->asked_for) {
        wait_until(answer, until);
        answered = true;
    } else if (answered) {
        run(answer, cycle);
    } else {
        scheduling_string_dup(error, "there is no cycle to choose from");
    }
    exports_careen_strategy_schedule_question_free(question);
    return answered;
}

void exports_careen_strategy_about_describe(exports_careen_strategy_about_description_t *answer) {
    memset(answer, 0, sizeof *answer); // no schema: it takes no configuration
    scheduling_string_dup(&answer->name, "calm-c");
    scheduling_string_dup(&answer->version, "1.0.0");
    scheduling_string_dup(&answer->summary, "No maintenance while a backup is being written.");
}

bool exports_careen_strategy_about_configure(
    scheduling_string_t *json, scheduling_string_t *error) {
    (void)error;
    scheduling_string_free(json);
    return true;
}
