// The audit lines of the HTTP port: who asked for what, from where, and what came of it. One line
// for each admin verb and each backup, never left out; for refusals so many lines a minute, and
// then how many more there were (base/log_event.h). They name principals and IDs, and no secret.
#pragma once

#include <memory>
#include <string>

#include "admin/authorization.h"
#include "admin/http_message.h"
#include "admin/reply.h"
#include "base/clock.h"

namespace connectd::admin {

// On the server's thread.
class Audit final {
 public:
  static void refused(const Request& request, const Refusal& refusal);
  // Writes the line when the verb is answered, and also when it never is. Null: a further piece of
  // a snapshot that the same caller is reading, whose line was written at its beginning.
  std::shared_ptr<AnswerObserver> verb(const Request& request, Time now);

 private:
  std::string last_backup_;
  Time last_backup_at_;
};

}  // namespace connectd::admin
