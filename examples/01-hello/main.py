"""The smallest plan: one case, which reads its parameters, says something and records a number."""

from testground.sdk import Failed, RunEnv, invoke


def hello(env: RunEnv) -> None:
    greeting = env.string_param("greeting")
    times = env.int_param("times")
    if times < 1:
        raise Failed(f"cannot say {greeting!r} {times} times")
    for _ in range(times):
        env.record_message(f"{greeting}, {env.group}!")
    env.R().record_point("greetings", times)


if __name__ == "__main__":
    invoke(hello)
