from running import Functions


def test_a_function_runs_and_its_log_comes_back(functions: Functions) -> None:
    name = functions.create("def handler(event, context):\n    print('hello')\n    return event\n")
    answer = functions.invoke(name, {"a": 1})
    assert (answer.error, answer.result, answer.version) == (None, {"a": 1}, "$LATEST")
    assert f"START RequestId: {answer.request_id} Version: $LATEST" in answer.log
    assert "hello\n" in answer.log
    assert "Init Duration" in answer.log
    assert "Init Duration" not in functions.invoke(name).log
