"""ruby3.x: real functions on this machine's Ruby, which may be another one than the runtime's: the server takes
the nearest (LAMBENT_RUNTIME_MATCH=compatible) and says so."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from running import Functions, Server, zipped
from support import require

RUNTIME = "ruby3.3"
CODE = """
require 'json'
puts "at init"
$events = 0
def handler(event:, context:)
  puts "seen #{event['number']}"
  raise ArgumentError, 'as asked' if event['fail']
  exit(3) if event['exit']
  return { bad: Float::NAN } if event['bad']
  { events: $events += 1, number: event['number'], id: context.aws_request_id, name: context.function_name,
    memory: context.memory_limit_in_mb, left: context.get_remaining_time_in_millis.positive?,
    text: event['text'], cwd: Dir.pwd, environment: ENV['AWS_EXECUTION_ENV'], lib: ENV['RUBYLIB'],
    gems: ENV['GEM_PATH'].split(':').map { |path| path.sub(/\\d+\\.\\d+\\.0$/, 'X') },
    trace: ENV['_X_AMZN_TRACE_ID'].start_with?('Root=1-') }
end
module Deep
  class App
    def self.run(event:, context:) = event.map { |word| word.upcase }
  end
end
"""


@pytest.fixture(scope="module")
def ruby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Functions]:
    require("ruby", shutil.which("ruby"), "functions in Ruby run on this machine's: apt-get install ruby")
    settings = {"LAMBENT_RUNTIME_MATCH": "compatible"}
    data = tmp_path_factory.mktemp("lambent-ruby") / "data"
    server = Server(data, "--no-s3", environment=settings).start()
    yield Functions(server)
    assert server.stop() == 0, server.output()


def made(ruby: Functions, files: dict[str, str | bytes], handler: str = "app.handler", **members: Any) -> str:
    return ruby.create(files, Runtime=RUNTIME, Handler=handler, **members)


def test_a_handler_is_answered(ruby: Functions) -> None:
    name = made(ruby, {"app.rb": CODE})
    for events in (1, 2):
        answer = ruby.invoke(name, {"number": events, "text": "é"})
        assert answer.error is None, answer.log
        assert answer.result == {
            "events": events,
            "number": events,
            "id": answer.request_id,
            "name": name,
            "memory": "128",
            "left": True,
            "text": "é",
            "cwd": "/var/task",
            "environment": "AWS_Lambda_ruby3.3",
            "lib": "/var/task:/opt/ruby/lib",
            "gems": ["/var/task/vendor/bundle/ruby/X", "/opt/ruby/gems/X"],
            "trace": True,
        }
        assert f"seen {events}" in answer.log
    failed = ruby.invoke(name, {"fail": True})
    assert failed.error == "Unhandled"
    assert failed.result["errorType"] == "Function<ArgumentError>"
    assert failed.result["errorMessage"] == "as asked"
    assert failed.result["stackTrace"][0].startswith("/var/task/app.rb:7:in ")
    assert ruby.invoke(name, {"bad": True}).result["errorType"] == "Runtime.MarshalError"
    assert ruby.invoke(name, {}).result["events"] == 3
    assert ruby.invoke(name, {"exit": True}).result["errorType"] == "Runtime.ExitError"
    assert ruby.invoke(name, {}).result["events"] == 1
    [line, *_] = [line for line in ruby.logged(name, until="INIT_START") if line.startswith("INIT_START")]
    assert line.startswith("INIT_START Runtime Version: ruby:"), line


def test_a_method_of_a_class_in_a_folder_and_a_layer(ruby: Functions) -> None:
    name = made(ruby, {"src/app.rb": CODE}, "src/app.Deep::App.run")
    assert ruby.invoke(name, ["a", "b"]).result == ["A", "B"]
    content = zipped({"ruby/lib/greeting.rb": "GREETING = 'from a layer'"})
    layer = ruby.aws.publish_layer_version(LayerName="lib", Content={"ZipFile": content})
    uses = "require 'greeting'\ndef handler(event:, context:) = GREETING"
    assert ruby.invoke(made(ruby, {"app.rb": uses}, Layers=[layer["LayerVersionArn"]])).result == "from a layer"


@pytest.mark.parametrize(
    ("files", "handler", "error_type", "text"),
    [
        ({"other.rb": ""}, "app.handler", "Init<LoadError>", "cannot load such file -- ./app"),
        ({"app.rb": "def ("}, "app.handler", "Init<SyntaxError>", "app.rb:1: "),
        ({"app.rb": ""}, "app.handler", "Runtime.HandlerNotFound", "handler"),
        ({"app.rb": ""}, "app", "Runtime.MalformedHandlerName", "Invalid handler app"),
        ({"app.rb": "raise 'at init'"}, "app.handler", "Init<RuntimeError>", "at init"),
    ],
    ids=["no file", "syntax", "no handler", "no name", "raises"],
)
def test_a_failing_init_says_why(
    ruby: Functions, files: dict[str, str | bytes], handler: str, error_type: str, text: str
) -> None:
    failed = ruby.invoke(made(ruby, files, handler))
    assert failed.error == "Unhandled"
    assert failed.result["errorType"] == error_type, failed.result
    assert text in failed.result["errorMessage"]


def test_without_the_setting_a_ruby_that_is_not_there_is_refused(functions: Functions) -> None:
    from lambent.executor.runtimes.family import Place
    from lambent.executor.runtimes.ruby import RubyFamily

    family = RubyFamily(Place(functions.server.data_dir, look_only=True))
    absent = next((name for name in family.names if not family.info(name).available), None)
    require("an absent Ruby", absent, "this machine has every Ruby that AWS has")
    problem, _ = family.problem(str(absent))
    assert problem is not None and f"cannot run {absent} on this machine: there is no Ruby" in problem
    with pytest.raises(functions.aws.exceptions.InvalidParameterValueException, match="there is no Ruby"):
        functions.create({"app.rb": CODE}, Runtime=absent)
