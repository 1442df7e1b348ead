// inspect wal, snapshot, identity: looks at a data directory from outside, read only.
#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "ctl/commands.h"
#include "offline/recover.h"
#include "storage/file_system.h"
#include "storage/identity.h"
#include "storage/log.h"
#include "storage/snapshot_store.h"

namespace connectd::ctl {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// The parts of a data directory.
constexpr const char* kLogDirectory = "log";
constexpr const char* kSnapshotDirectory = "snapshots";
constexpr std::string_view kSnapshotSuffix = ".snapshot";

std::string number_or_dash(uint64_t number) { return number == 0 ? "-" : std::to_string(number); }

// A part of the data directory; or the directory itself if it is that part.
Result<std::string> part_of(const std::string& directory, const char* part) {
  std::error_code ec;
  if (fs::is_directory(fs::path(directory) / part, ec)) {
    return (fs::path(directory) / part).string();
  }
  if (fs::is_directory(directory, ec) && fs::path(directory).filename() == part) return directory;
  if (!fs::exists(directory, ec)) {
    return failure(ErrorKind::kNotFound,
                   fmt::format("{}: no such directory; use a node's node.data_dir", directory));
  }
  return failure(ErrorKind::kNotFound,
                 fmt::format("{} has no directory '{}': it is not a data directory, or its node "
                             "never ran; use a node's node.data_dir",
                             directory, part));
}

class Printer final : public storage::RecordVisitor {
 public:
  Printer(std::ostream& out, bool json) : out_(out), json_(json) {}

  void on_record(const storage::InspectedRecord& record) override {
    ++records_;
    if (!record.valid) ++invalid_;
    if (record.kind == storage::kNewerKind) ++newer_;
    if (json_) {
      out_ << json::serialize(json::object{{"file", record.file},
                                           {"offset", record.offset},
                                           {"bytes", record.bytes},
                                           {"valid", record.valid},
                                           {"kind", record.kind},
                                           {"index", record.index.value()},
                                           {"term", record.term.value()},
                                           {"text", record.text}})
           << "\n";
      return;
    }
    if (record.file != file_) {
      out_ << (file_.empty() ? "" : "\n") << record.file << "\n";
      out_ << fmt::format("  {:>12} {:>10} {:<8} {:>12} {:>8}  {}\n", "OFFSET", "BYTES", "KIND",
                          "INDEX", "TERM", "");
      file_ = record.file;
    }
    out_ << fmt::format("  {:>12} {:>10} {:<8} {:>12} {:>8}  {}\n", record.offset, record.bytes,
                        record.valid ? record.kind : "INVALID",
                        number_or_dash(record.index.value()), number_or_dash(record.term.value()),
                        record.text);
  }

  uint64_t records() const { return records_; }
  uint64_t invalid() const { return invalid_; }
  uint64_t newer() const { return newer_; }

 private:
  std::ostream& out_;
  bool json_;
  std::string file_;
  uint64_t records_ = 0;
  uint64_t invalid_ = 0;
  uint64_t newer_ = 0;
};

}  // namespace

ExitCode inspect_wal_command(Context& context) {
  Result<std::string> directory = part_of(context.arguments[0], kLogDirectory);
  if (!directory) return context.fail(directory.error());
  auto files = storage::make_real_file_system();
  Printer printer(context.streams.out, context.json);
  Result<void> done = storage::inspect_log(*files, *directory, printer);
  if (!done) return context.fail(done.error());
  context.streams.err << fmt::format("{} records, {} invalid\n", printer.records(),
                                     printer.invalid());
  if (printer.newer() > 0) {
    return context.fail(ExitCode::kMismatch,
                        fmt::format("a newer connectd wrote {} of the records; they are not "
                                    "damaged. Use the connectctl of that version",
                                    printer.newer()));
  }
  if (printer.invalid() == 0) return ExitCode::kOk;
  return context.fail(
      ExitCode::kNegative,
      "invalid records at the end come from a write that a crash interrupted, and the node removes "
      "them; before valid records they are damage. To find out, start the node");
}

ExitCode inspect_snapshot_command(Context& context) {
  std::error_code ec;
  std::vector<std::string> paths;
  if (fs::is_regular_file(context.arguments[0], ec)) {
    paths.push_back(context.arguments[0]);
  } else {
    Result<std::string> directory = part_of(context.arguments[0], kSnapshotDirectory);
    if (!directory) return context.fail(directory.error());
    auto files = storage::make_real_file_system();
    Result<std::vector<std::string>> names = files->list(*directory);
    if (!names) return context.fail(names.error());
    for (const std::string& name : *names) {
      if (name.ends_with(kSnapshotSuffix)) paths.push_back((fs::path(*directory) / name).string());
    }
    if (paths.empty()) context.streams.err << *directory << " has no snapshot yet\n";
  }
  auto files = storage::make_real_file_system();
  bool all_good = true;
  std::vector<std::vector<std::string>> rows = {
      {"FILE", "INDEX", "TERM", "BYTES", "METADATA", "STREAM", "CHUNKS", "WRITER", "STATE"}};
  for (const std::string& path : paths) {
    Result<storage::SnapshotContent> content = storage::inspect_snapshot(*files, path);
    all_good = all_good && content.has_value();
    std::string name = fs::path(path).filename().string();
    if (context.json) {
      json::object object{{"file", path}, {"valid", content.has_value()}};
      if (content) {
        object["index"] = content->info.mark.index.value();
        object["term"] = content->info.mark.term.value();
        object["bytes"] = content->info.file_bytes;
        object["metadata_bytes"] = content->metadata_bytes;
        object["stream_bytes"] = content->stream_bytes;
        object["chunks"] = content->chunks;
        object["writer"] = content->writer;
      } else {
        object["error"] = content.error().text;
      }
      context.streams.out << json::serialize(object) << "\n";
    } else if (content) {
      rows.push_back({name, std::to_string(content->info.mark.index.value()),
                      std::to_string(content->info.mark.term.value()),
                      std::to_string(content->info.file_bytes),
                      std::to_string(content->metadata_bytes),
                      std::to_string(content->stream_bytes), std::to_string(content->chunks),
                      content->writer, "valid"});
    } else {
      rows.push_back({name, "-", "-", "-", "-", "-", "-", "-", "DAMAGED"});
      context.streams.err << "connectctl: " << content.error().text << "\n";
    }
  }
  if (!context.json && rows.size() > 1) context.streams.out << table(rows);
  return all_good ? ExitCode::kOk : ExitCode::kNegative;
}

ExitCode inspect_identity_command(Context& context) {
  const std::string& directory = context.arguments[0];
  auto files = storage::make_real_file_system();
  Result<std::optional<storage::Identity>> identity = storage::load_identity(*files, directory);
  if (!identity) return context.fail(identity.error());
  if (!identity->has_value()) {
    return context.fail(ExitCode::kNoInput,
                        fmt::format("{} has no identity: it is not a data directory, or its node "
                                    "never ran; use a node's node.data_dir",
                                    directory));
  }
  const storage::Identity& found = **identity;
  if (context.json) {
    json::array former;
    for (const ClusterId& id : found.former_cluster_ids) former.emplace_back(id.to_string());
    json::array skips;
    for (const raft::EntryId& skip : found.skips) skips.emplace_back(offline::entry_text(skip));
    context.streams.out << json::serialize(json::object{
                               {"node_id", found.node_id.value()},
                               {"disk_id", found.disk_id.to_string()},
                               {"cluster_id", found.cluster_id
                                                  ? json::value(found.cluster_id.to_string())
                                                  : nullptr},
                               {"genesis_bytes", found.genesis.size()},
                               {"log_begun", found.log_begun},
                               {"former_cluster_ids", std::move(former)},
                               {"skips", std::move(skips)}})
                        << "\n";
  } else {
    context.streams.out << fmt::format(
        "node     {}\ndisk     {}\ncluster  {}\ngenesis  {} bytes\n", found.node_id,
        found.disk_id.to_string(),
        found.cluster_id ? found.cluster_id.to_string() : "none: no cluster formed yet",
        found.genesis.size());
    for (const ClusterId& id : found.former_cluster_ids) {
      context.streams.out << fmt::format("former   {}, before a recovery\n", id.to_string());
    }
    for (const raft::EntryId& skip : found.skips) {
      context.streams.out << fmt::format("skips    the entry {}\n", offline::entry_text(skip));
    }
  }
  return ExitCode::kOk;
}

}  // namespace connectd::ctl
