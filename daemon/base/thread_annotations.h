// What clang checks with -Wthread-safety (scripts/check-clang.py threads): which mutex guards a
// member, and which functions need it. With g++ all of it is empty.
#pragma once

#ifdef __clang__
#define CONNECTD_ANNOTATION(x) __attribute__((x))
#else
#define CONNECTD_ANNOTATION(x)
#endif

// A class whose objects can be held: a mutex, or the role of a thread.
#define CAPABILITY(name) CONNECTD_ANNOTATION(capability(name))
#define SCOPED_CAPABILITY CONNECTD_ANNOTATION(scoped_lockable)
// A member: only while `x` is held. PT_: what a pointer leads to.
#define GUARDED_BY(x) CONNECTD_ANNOTATION(guarded_by(x))
#define PT_GUARDED_BY(x) CONNECTD_ANNOTATION(pt_guarded_by(x))
// A function: `x` must, or must not, be held where it is called.
#define REQUIRES(...) CONNECTD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) CONNECTD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) CONNECTD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) CONNECTD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...) CONNECTD_ANNOTATION(release_capability(__VA_ARGS__))
// After a call of this function, `x` is known to be held.
#define ASSERT_CAPABILITY(x) CONNECTD_ANNOTATION(assert_capability(x))
#define RETURN_CAPABILITY(x) CONNECTD_ANNOTATION(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS CONNECTD_ANNOTATION(no_thread_safety_analysis)
