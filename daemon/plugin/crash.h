// The last line of a process that crashes: names the plugin call it happened in, so that nobody
// looks for a plugin's bug in connectd, or the other way round.
//
//   plugin counter 1.0.0 crashed in apply at index 812 (signal 11, SIGSEGV)
//   connectd crashed (signal 6, SIGABRT)
//
// The handler is async-signal-safe: it formats into a buffer on its own stack and writes to stderr,
// behind the lines of the log that are queued (base/log.h), writes the flight recorder to its file
// (base/flight_recorder.h), then has the signal do what it does by default (core dump, exit by
// signal). It works once, also when a handler that a plugin or one of
// its libraries installed passes the signal on to it.
#pragma once

namespace connectd::plugin {

// For SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT, in the whole process; also gives the calling
// thread its stack. Once, at the start of main().
void install_crash_handler();

// A stack for the handler, so that a stack overflow is reported too. Once at the start of every
// thread that calls a plugin; freed when the thread ends.
void install_crash_stack();

}  // namespace connectd::plugin
