// A plugin that is built without care: it exports all that it has, and it brings libraries that
// connectd has, too, in a state of their own. Each command replies "7 ok".
#include <glog/logging.h>
#include <yaml-cpp/yaml.h>

#include <connect/plugin.hpp>
#include <map>
#include <string>
#include <vector>

namespace sdk = connectd::sdk;

// Named like a function of a library that connectd has, and unlike it.
extern "C" unsigned ZSTD_versionNumber() { return 7; }

class Crowded {
 public:
  Crowded() {
    // glog ends a process in which this is called twice.
    FLAGS_logtostderr = true;
    google::InitGoogleLogging("crowded");
  }
  void apply(const sdk::ApplyContext&, std::string_view command, sdk::Reply& reply) {
    words_[std::string(command)] = "x";
    const YAML::Node node = YAML::Load("answer: ok");
    reply << ZSTD_versionNumber() << " " << node["answer"].as<std::string>() << "\n";
  }
  void save(sdk::Writer&) const {}
  void load(sdk::Reader&) {}

 private:
  std::map<std::string, std::string> words_;
};

CONNECTD_PLUGIN(Crowded, .name = "crowded", .version = "1.0.0", .only_writes = true);
