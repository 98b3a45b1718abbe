"""What goes wrong on the way: relays, the receiver and databases that stop, hang and come back; secrets; operators."""

from __future__ import annotations

import json
import threading
from typing import Any

import odoorpc.error
from pytest_bdd import given, parsers, then, when

from ipai_bridge.secret import generate_secret
from ipai_harness.faults.proxy import Answer, Proxy, Request
from ipai_harness.steps.waiting import until
from ipai_harness.steps.world import World

# --- parts that stop


@given(parsers.re("Supabase is (?P<state>down)"))
@when(parsers.re("Supabase is (?P<state>up) again"))
def supabase(world: World, state: str) -> None:
    """Its functions and its database."""
    if state == "down":
        world.stack.functions.stop()
        world.stack.supabase_db.stop("immediate")
    else:
        world.stack.supabase_db.start()
        world.stack.functions.start()


@given(parsers.re("the receiver is (?P<state>down)"))
@when(parsers.re("the receiver is (?P<state>up) again"))
def receiver(world: World, state: str) -> None:
    """The functions alone."""
    if state == "down":
        world.stack.functions.stop()
    else:
        world.stack.functions.start()


@given(parsers.re("the relay is (?P<state>stopped)"))
@when(parsers.re("the relay is (?P<state>stopped|started)"))
def relay(world: World, state: str) -> None:
    """Cleanly, by SIGTERM."""
    if state == "stopped":
        world.relay.stop()
    else:
        world.relay.start()


@when("a second relay is started")
def second_relay(world: World) -> None:
    """On the same outbox."""
    world.second_relay()


@when("the relay has tried in vain")
def tried_in_vain(world: World) -> None:
    """At least one attempt has failed."""
    until(
        lambda: [event for event in world.events() if event.attempts],
        what="the relay has made an attempt that failed",
    )


@when("Supabase's database is killed and started again")
def supabase_db_killed(world: World) -> None:
    """`immediate`: no checkpoint, no goodbye."""
    world.stack.supabase_db.stop("immediate")
    world.stack.supabase_db.start()


@when("Odoo's database is killed and started again")
def odoo_db_killed(world: World) -> None:
    """And Odoo has noticed: the next act works."""
    world.stack.odoo_db.stop("immediate")
    world.stack.odoo_db.start()

    def works() -> bool:
        try:
            return bool(world.odoo.search("res.partner", [], limit=1))
        except (odoorpc.error.RPCError, OSError):
            return False

    until(works, what="Odoo works again")


@when("Odoo is killed")
def odoo_killed(world: World) -> None:
    """SIGKILL; it is started again after the scenario."""
    world.stack.odoo.kill()


@when(
    parsers.parse(
        "somebody renames each customer {count:d} times, while the relay is killed and started {kills:d} times"
    )
)
def killed_again_and_again(world: World, count: int, kills: int) -> None:
    """The kills fall between the acts, so that some events are under way at each; their leases run out soon."""
    world.relay_with(http_timeout="5s", lease="8s")
    partners = {name: thing for name, thing in world.things.items() if thing.model == "res.partner"}
    for number in range(count):
        for name in partners:
            world.rename(name, f"{name} {number + 1}")
        if number < kills:
            world.relay.kill()
            world.relay.start()


# --- a proxy before the receiver


def _before_the_receiver(world: World, proxy: Proxy, **settings: str) -> None:
    world.undo.enter_context(proxy)
    world.relay_with(url=_url_for_parts(world, proxy), **settings)


def _url_for_parts(world: World, proxy: Proxy) -> str:
    """The proxy's URL as the stack's parts reach it."""
    port = world.undo.enter_context(world.stack.reach(proxy.port))
    return f"http://127.0.0.1:{port}{proxy.path}"


def _proxy(world: World, **behaviour: Any) -> Proxy:
    return Proxy(world.target.functions_url, host=world.stack.listen_on, **behaviour)


@given("the receiver hangs after it has taken a request")
def hanging(world: World) -> None:
    """Until a later sentence lets it answer."""
    taken, release = threading.Event(), threading.Event()
    world.notes |= {"taken": taken, "release": release}

    def hang(_request: Request, _answer: Answer) -> None:
        taken.set()
        release.wait(20)

    world.undo.callback(release.set)
    _before_the_receiver(world, _proxy(world, answered=hang))


@when("the receiver has taken it")
def has_taken(world: World) -> None:
    """And has not answered."""
    assert world.notes["taken"].wait(20), "the receiver was not asked within 20 s"


@then(parsers.parse("{count:d} events arrive and are completed once the receiver answers again"))
def answers_again(world: World, count: int) -> None:
    """It goes on where it hung."""
    world.notes["release"].set()
    world.until_completed(count)


@given("the relay is killed as soon as the receiver has answered")
def killed_after_answer(world: World) -> None:
    """Before it hears the answer: what it sent has taken effect, and it does not know."""
    killed = threading.Event()
    world.notes["killed"] = killed

    def kill(_request: Request, answer: Answer) -> None:
        if answer.status == 200 and not killed.is_set():
            world.relay.kill()
            killed.set()

    _before_the_receiver(world, _proxy(world, answered=kill), http_timeout="5s", lease="8s")


@when("the relay was killed, and is started again")
def started_again(world: World) -> None:
    """The outbox does not know of the delivery."""
    assert world.notes["killed"].wait(20), "the receiver did not answer within 20 s"
    [event] = world.events()
    assert (event.outbox_status, event.webhook_status is not None) == ("pending", True), str(event)
    world.relay.start()


@given(parsers.parse('the receiver refuses the events of "{name}"'))
def refuses(world: World, name: str) -> None:
    """With a 400, as for an event that it will never take."""
    wanted = str(world.thing(name).id)

    def refuse(request: Request) -> Answer | None:
        if json.loads(request.body)["aggregate_id"] != wanted:
            return None
        body = json.dumps({"ok": False, "error": {"code": "invalid_event", "message": "refused by the scenario"}})
        return Answer(400, [("content-type", "application/json"), ("x-ipai-contract", "1")], body.encode())

    _before_the_receiver(world, _proxy(world, intercept=refuse))


@given("the receiver redirects to another address")
def redirects(world: World) -> None:
    """Which would take whatever comes."""
    there: list[Request] = []

    def take(request: Request) -> Answer:
        there.append(request)
        return Answer(200, [("content-type", "application/json")], b'{"ok":true,"id":1,"duplicate":false}')

    elsewhere = world.undo.enter_context(_proxy(world, intercept=take))
    world.notes["elsewhere"] = there
    location = f"{_url_for_parts(world, elsewhere)}/odoo-webhook"
    _before_the_receiver(
        world,
        _proxy(world, intercept=lambda _request: Answer(307, [("location", location)], b"")),
    )


@then("nothing was sent to the other address")
def nothing_elsewhere(world: World) -> None:
    """Not even the signature."""
    assert world.notes["elsewhere"] == []


@when("the event waits for an hour")
def waits(world: World) -> None:
    """By the outbox's clock: it was written an hour ago."""
    world.odoo_sql(
        "update ipai_bridge.outbox set created_at = created_at - interval '1 hour' where instance = %s", world.instance
    )


# --- secrets


@when("the receiver is given a new secret beside the old one")
def rotate_receiver(world: World) -> None:
    """First the side that verifies."""
    world.notes["new secret"] = generate_secret().reveal()
    world.receiver_with(world.notes["new secret"], world.target.secrets[0].reveal())


@when("the relay is given the new secret")
def rotate_relay(world: World) -> None:
    """Then the side that signs."""
    world.relay_with(secret=world.notes["new secret"])


@given("the relay has a secret that Supabase does not know")
def wrong_secret(world: World) -> None:
    """As after a mistake in a rotation."""
    world.notes["wrong secret"] = generate_secret().reveal()
    world.relay_with(secret=world.notes["wrong secret"])


@when("the relay has the right secret again")
def right_secret(world: World) -> None:
    """The mistake is mended."""
    world.relay_with()


@when("the attempt is refused, and the reason asks whether the secret is the same on both sides")
@then("the attempt is refused, and the reason asks whether the secret is the same on both sides")
def reason_of_401(world: World) -> None:
    """In the outbox, where an operator looks."""
    [event] = until(lambda: [event for event in world.events() if event.last_error], what="an attempt was refused")
    assert "is the secret the same on both sides" in str(event.last_error)


@then("each was taken at the first attempt")
def first_attempt(world: World) -> None:
    """No event was refused on the way."""
    assert {event.attempts for event in world.events()} == {1}


# --- operators


@then("the event is kept in Odoo")
def kept(world: World) -> None:
    """Pending, in the outbox."""
    [event] = world.events()
    assert (event.outbox_status, event.webhook_status) == ("pending", None), str(event)


@then(parsers.parse('the event is given up with a reason that names "{reason}"'))
def given_up(world: World, reason: str) -> None:
    """A dead letter; nothing of it is lost."""
    [event] = until(
        lambda: [event for event in world.events() if event.outbox_status == "dead"], what="the event is given up"
    )
    assert reason in str(event.last_error), event.last_error


@when("an operator retries what was given up")
def retry(world: World) -> None:
    """`ipai-bridge outbox retry`, for each dead letter of the scenario."""
    for event in world.events():
        if event.outbox_status == "dead":
            done = world.command("outbox", "retry", event.idempotency_key)
            assert done.returncode == 0, done.stderr


@when("an operator purges the outbox")
def purge(world: World) -> None:
    """`ipai-bridge outbox purge`, of everything that was delivered."""
    until(lambda: [event for event in world.events() if event.outbox_status == "delivered"], what="it is delivered")
    done = world.command("outbox", "purge", "--older-than", "0m")
    assert done.returncode == 0, done.stderr
    left = world.odoo_sql("select status from ipai_bridge.outbox where instance = %s", world.instance)
    assert left == [("pending",)], f"what is left of the outbox: {left}"


# --- deprecated projects


@when(parsers.parse('the deprecated project "{project}" is named as {place}'))
def deprecated(world: World, project: str, place: str) -> None:
    """By an operator, on the command line or in the environment."""
    url = f"https://{project}.supabase.co/functions/v1"
    if place == "the relay's URL":
        done = world.command("relay", "--once", IPAI_BRIDGE_URL=url)
    elif place == "the URL of a sync":
        done = world.command("sync", "finance", IPAI_BRIDGE_URL=url)
    else:
        done = world.harness("audit", "--db", f"postgresql://postgres@db.{project}.supabase.co:5432/postgres")
    world.notes["command"] = done


@then(parsers.parse('the command is refused with "{code}"'))
def command_refused(world: World, code: str) -> None:
    """And it says so in one line."""
    done = world.notes["command"]
    assert done.returncode != 0
    assert code in done.stderr or code.replace("_", " ") in done.stderr or "deprecated" in done.stderr, done.stderr
