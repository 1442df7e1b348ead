#include "admin/http_message.h"

#include "admin/answers.h"

namespace connectd::admin {

std::string_view Request::header(std::string_view lower_case_name) const {
  auto found = headers.find(lower_case_name);
  return found == headers.end() ? std::string_view() : found->second;
}

Response text_response(int status, std::string body) {
  return {status, "text/plain; charset=utf-8", std::move(body)};
}
Response json_response(std::string body) { return {200, "application/json", std::move(body)}; }
Response bytes_response(std::string body) {
  return {200, "application/octet-stream", std::move(body)};
}

Response problem(int status, std::string_view title, std::string detail, std::string_view code) {
  Problem problem;
  problem.title = title;
  problem.status = status;
  problem.detail = std::move(detail);
  problem.code = code;
  Response response{status, "application/problem+json", to_json(problem)};
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

}  // namespace connectd::admin
