"""The rules and the words of made-up games: a PDDL domain and a text grammar, written for Palaestra.

Commands are spelt as in ALFWorld's games ("take X from Y", "put X in/on Y", ...), and predicates carry the names under
which its oracle finds them, so that what is learnt in one can be used in the other. What is answered is worded anew.
"""

from __future__ import annotations

from collections.abc import Mapping

DOMAIN = """\
; A room with furniture and things in it. Somebody walks about, carries one thing at a time, and uses it.
(define (domain palaestra_home)
  (:requirements :adl :typing)
  (:types agent location receptacle object rtype otype)
  (:predicates
    (atLocation ?a - agent ?l - location)
    (receptacleAtLocation ?r - receptacle ?l - location)
    (receptacleType ?r - receptacle ?t - rtype)
    (objectType ?o - object ?t - otype)
    (canContain ?t - rtype ?u - otype)
    (inReceptacle ?o - object ?r - receptacle)
    (openable ?r - receptacle) (opened ?r - receptacle)
    (washes ?r - receptacle) (warms ?r - receptacle) (chills ?r - receptacle)
    (pickupable ?o - object) (toggleable ?o - object)
    (cleanable ?o - object) (heatable ?o - object) (coolable ?o - object)
    (isClean ?o - object) (isHot ?o - object) (isCool ?o - object) (isToggled ?o - object)
    (holds ?a - agent ?o - object) (holdsAny ?a - agent)
    (looked ?a - agent) (seen ?r - receptacle) (known ?o - object))

  (:action walk
    :parameters (?a - agent ?from - location ?to - location ?r - receptacle)
    :precondition (and (atLocation ?a ?from) (receptacleAtLocation ?r ?to) (not (= ?from ?to)))
    :effect (and (atLocation ?a ?to) (not (atLocation ?a ?from))))

  (:action unclose
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (openable ?r) (not (opened ?r)))
    :effect (opened ?r))

  (:action shut
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (openable ?r) (opened ?r))
    :effect (not (opened ?r)))

  (:action grasp
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?o ?r) (pickupable ?o)
                       (not (holdsAny ?a)) (or (opened ?r) (not (openable ?r))))
    :effect (and (holds ?a ?o) (holdsAny ?a) (not (inReceptacle ?o ?r))))

  (:action place
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle ?u - otype ?t - rtype)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (holds ?a ?o) (objectType ?o ?u)
                       (receptacleType ?r ?t) (canContain ?t ?u) (or (opened ?r) (not (openable ?r))))
    :effect (and (inReceptacle ?o ?r) (not (holds ?a ?o)) (not (holdsAny ?a))))

  (:action wash
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (holds ?a ?o) (cleanable ?o) (washes ?r))
    :effect (isClean ?o))

  (:action warm
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (holds ?a ?o) (heatable ?o) (warms ?r))
    :effect (and (isHot ?o) (not (isCool ?o))))

  (:action chill
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (holds ?a ?o) (coolable ?o) (chills ?r))
    :effect (and (isCool ?o) (not (isHot ?o))))

  (:action switchOn
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?o ?r) (toggleable ?o)
                       (not (isToggled ?o)))
    :effect (isToggled ?o))

  (:action switchOff
    :parameters (?a - agent ?l - location ?o - object ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?o ?r) (toggleable ?o)
                       (isToggled ?o))
    :effect (not (isToggled ?o)))

  (:action inspectPlace
    :parameters (?a - agent ?l - location ?r - receptacle)
    :precondition (and (receptacleAtLocation ?r ?l) (atLocation ?a ?l))
    :effect (seen ?r))

  (:action inspectThing
    :parameters (?a - agent ?o - object)
    :precondition (holds ?a ?o)
    :effect (known ?o))

  (:action lookAround
    :parameters (?a - agent ?l - location)
    :precondition (atLocation ?a ?l)
    :effect (looked ?a))

  (:action checkHands
    :parameters (?a - agent ?l - location)
    :precondition (atLocation ?a ?l)
    :effect (looked ?a))
)
"""

_GRAMMAR = '''\
grammar :: """
{
  "intro": [{"rhs": "A made-up home.\\n\\n#survey#\\n\\n#task#"}],
  "task": [{"rhs": "Your task is to: %(task)s."}],
  "survey": [{"rhs": "You stand in the middle of the %(room)s. Around you there is [{#one(r)# | receptacleatlocation(r:receptacle, spot:location)}]."}],
  "one(r)": [{"rhs": "{r.indefinite} {r.name}"}],
  "one(o)": [{"rhs": "{o.indefinite} {o.name}"}],
  "sight": [
    {"condition": "openable(r:receptacle) & opened(r:receptacle)", "rhs": "It is open. Inside there is [{#one(o)# | inreceptacle(o:object, r:receptacle)}]."},
    {"condition": "openable(r:receptacle)", "rhs": "It is closed."},
    {"rhs": "There you find [{#one(o)# | inreceptacle(o:object, r:receptacle)}]."}
  ],
  "walked": [{"rhs": "You walk over to the {r.name}. #sight#"}],
  "unclosed": [{"rhs": "The {r.name} opens. Inside there is [{#one(o)# | inreceptacle(o:object, r:receptacle)}]."}],
  "shut": [{"rhs": "The {r.name} is closed now."}],
  "grasped": [{"rhs": "From the {r.name} you take the {o.name}."}],
  "placed": [{"rhs": "The {o.name} is in or on the {r.name} now."}],
  "washed": [{"rhs": "With the {r.name} you clean the {o.name}."}],
  "warmed": [{"rhs": "With the {r.name} you heat the {o.name}."}],
  "chilled": [{"rhs": "With the {r.name} you cool the {o.name}."}],
  "lit": [{"rhs": "The {o.name} shines now."}],
  "unlit": [{"rhs": "The {o.name} is dark now."}],
  "inspectedPlace": [{"rhs": "You look closely at the {r.name}. #sight#"}],
  "inspectedThing": [{"rhs": "You look closely at the {o.name}. It is #washing# and #warmth#."}],
  "washing": [
    {"condition": "isclean(o:object)", "rhs": "freshly cleaned"},
    {"rhs": "not cleaned"}
  ],
  "warmth": [
    {"condition": "ishot(o:object)", "rhs": "hot"},
    {"condition": "iscool(o:object)", "rhs": "cold"},
    {"rhs": "neither hot nor cold"}
  ],
  "looked": [
    {"condition": "atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)", "rhs": "#facing#"},
    {"rhs": "#survey#"}
  ],
  "facing": [{"rhs": "You stand before the [{r.name | atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)}]."}],
  "hands": [
    {"condition": "holdsany(a:agent)", "rhs": "In your hands there is [{#one(o)# | holds(a:agent, o:object)}]."},
    {"rhs": "Your hands are empty."}
  ],
  "list_empty": [{"rhs": "nothing"}],
  "list_separator": [{"rhs": ", "}],
  "list_last_separator": [{"rhs": ", and "}]
}
""";

action walk { template :: "go to {r}"; feedback :: "#walked#"; }
action unclose { template :: "open {r}"; feedback :: "#unclosed#"; }
action shut { template :: "close {r}"; feedback :: "#shut#"; }
action grasp { template :: "take {o} from {r}"; feedback :: "#grasped#"; }
action place { template :: "put {o} in/on {r}"; feedback :: "#placed#"; }
action wash { template :: "clean {o} with {r}"; feedback :: "#washed#"; }
action warm { template :: "heat {o} with {r}"; feedback :: "#warmed#"; }
action chill { template :: "cool {o} with {r}"; feedback :: "#chilled#"; }
action switchOn { template :: "use {o}"; feedback :: "#lit#"; }
action switchOff { template :: "use {o}"; feedback :: "#unlit#"; }
action inspectPlace { template :: "examine {r}"; feedback :: "#inspectedPlace#"; }
action inspectThing { template :: "examine {o}"; feedback :: "#inspectedThing#"; }
action lookAround { template :: "look"; feedback :: "#looked#"; }
action checkHands { template :: "inventory"; feedback :: "#hands#"; }
'''  # noqa: E501  # a rule is a line

TASKS: Mapping[str, tuple[str, ...]] = {
    "pick_and_place_simple": (
        "put {a_thing} {word} the {place}",
        "find {a_thing} and leave it {word} the {place}",
        "see that there is {a_thing} {word} the {place}",
    ),
    "look_at_obj_in_light": (
        "look at {a_thing} by the light of the {lamp}",
        "hold {a_thing} while the {lamp} shines",
        "switch on the {lamp} and view {a_thing}",
    ),
    "pick_clean_then_place_in_recep": (
        "clean {a_thing} and put it {word} the {place}",
        "put a freshly cleaned {thing} {word} the {place}",
        "wash {a_thing}, then leave it {word} the {place}",
    ),
    "pick_heat_then_place_in_recep": (
        "heat {a_thing} and put it {word} the {place}",
        "put a hot {thing} {word} the {place}",
        "warm {a_thing} up, then leave it {word} the {place}",
    ),
    "pick_cool_then_place_in_recep": (
        "cool {a_thing} and put it {word} the {place}",
        "put a cold {thing} {word} the {place}",
        "chill {a_thing}, then leave it {word} the {place}",
    ),
    "pick_two_obj_and_place": (
        "put two of the kind {thing} {word} the same {place}",
        "bring two of the kind {thing} together {word} one {place}",
        "find two of the kind {thing} and leave both {word} the same {place}",
    ),
}
"""Task type -> how the task can be put."""


def grammar(room: str, task: str) -> str:
    """The grammar of a game: its texts name the kind of room and the task."""
    return _GRAMMAR % {"room": room, "task": task}
