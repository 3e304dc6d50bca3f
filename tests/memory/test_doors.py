"""The systems' own doors on the real store: what is done through `Memory.working` is committed with its messages, and found again."""

from __future__ import annotations

import json

from baywindow.memory.cipher import LEARN, Cipher
from baywindow.memory.mem0 import Mem0, decide, facts
from baywindow.memory.records import Scope
from baywindow.memory.statler import ANSWER, WRITE, Statler

from .talking import by_rules

ANN = Scope("ann", session="monday")


def test_a_step_of_a_task_is_kept_with_its_message(make_memory, scripted):
    answer = json.dumps({"reasoning": "r", "reply": "Done.", "changes": ["the lamp is on"]})
    written = json.dumps({"reasoning": "r", "state": {"lamp": {"is": "on"}}})
    system = Statler()
    memory = make_memory(system, model=scripted(by_rules({ANSWER: answer, WRITE: written})))
    with memory.working("Turn the lamp on.", ANN) as work:
        assert system.step(work, work.fresh[0]).state == {"lamp": {"is": "on"}}
    memory.close()
    later = make_memory(system)
    assert [one.text for one in later.recall("lamp", ANN)] == ["lamp: is on"]
    assert [turn.text for turn in later.list(ANN, said=True)] == ["Turn the lamp on."]


def test_a_learnt_preference_can_be_edited_by_its_user(make_memory, scripted):
    learnt = json.dumps({"reasoning": "r", "preference": "short lines"})
    system = Cipher()
    memory = make_memory(system, model=scripted(by_rules({LEARN: learnt})))
    with memory.working(["Write a poem on tea.", "Tea, and rain."], ANN) as work:
        system.learn(work, work.fresh[0], "Tea is what I drink when it rains.", work.fresh[1])
    (record,) = memory.list(ANN)
    memory.update(record.id, "very short lines", ANN)
    assert [one.text for one in memory.recall("Write a poem on tea and rain.", ANN)] == ["Preferred in such texts: very short lines"]


def test_a_wrong_update_of_a_fact_can_be_undone(make_memory, scripted):
    said = [
        {"reasoning": "r", "facts": [{"message": 1, "quote": f"live in {town}", "fact": f"Ann lives in {town}."}]}
        for town in ("Rome", "Oslo")
    ]
    choice = json.dumps({"reasoning": "r", "action": "DELETE", "memory": 1, "text": ""})
    model = scripted(by_rules({facts.SYSTEM: [json.dumps(one) for one in said], decide.SYSTEM: choice}))
    memory = make_memory(Mem0(summary_every=0), model=model)
    for town in ("Rome", "Oslo"):
        memory.add({"role": "user", "name": "Ann", "content": f"I live in {town}."}, ANN)
    (new,) = memory.list(ANN)
    assert new.text == "Ann lives in Oslo."
    memory.undo(memory.history(new.id, ANN).decisions[-1], ANN)
    assert [record.text for record in memory.list(ANN)] == ["Ann lives in Rome."]
