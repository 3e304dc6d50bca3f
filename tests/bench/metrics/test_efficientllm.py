"""EfficientLLM's figures, from readings made by hand and from this machine."""

from __future__ import annotations

import time

import pytest

from baywindow.bench.metrics._meters import Meter, NvmlMeter, ProcessMeter, Reading, meter
from baywindow.bench.metrics.efficientllm import Request, Sampler, averaged, efficiency
from baywindow.errors import ConfigError


class Told(Meter):
    """Tells what it was given, one reading after the other."""

    memory_total = 1000

    def __init__(self, *readings: Reading) -> None:
        self.left = list(readings)

    def read(self, at_s: float) -> Reading:
        return self.left.pop(0)


def watched(*readings: Reading) -> Sampler:
    return Sampler(interval_s=60, of=Told(*readings), readings=list(readings))


REQUESTS = [Request(seconds=2.0, prompt_tokens=100, generated_tokens=20, first_token_s=0.5), Request(2.0, 60, 20)]


def test_the_six_figures_of_a_worked_example():
    seen = watched(Reading(0.0, 100, None, 50.0), Reading(1.0, 300, 0.5, 60.0), Reading(4.0, 300, 1.0, 90.0))
    found = efficiency(seen, REQUESTS, bytes_before=800, bytes_after=200, quality_kept=0.95)
    # Memory: (100+300)/2 for 1 s and 300 for 3 s: (200 + 900) / 4 = 275, of 1000.
    assert (found.amu_bytes, found.amu_share, found.peak_bytes) == (275, 0.275, 300)
    # Utilisation from 1 s on: (0.5 + 1) / 2 over 3 s.
    assert (found.pcu, found.average_utilisation) == (1.0, 0.75)
    # 4 s of requests, 40 generated tokens of 200 in all.
    assert (found.al_s, found.first_token_s, found.at_generated, found.at_all) == (2.0, 0.5, 10.0, 50.0)
    # 40 joules in 4 s.
    assert (found.energy_joules, found.aec_watts) == (40.0, 10.0)
    assert (found.mcr, found.mcr_quality) == (4.0, pytest.approx(3.8))
    assert (found.poll_interval_s, found.readings) == (60, 3)


def test_what_could_not_be_measured_is_none_and_never_zero():
    found = efficiency(watched(Reading(0.0, 10), Reading(1.0, 10)), [])
    assert found.al_s is found.at_generated is found.pcu is found.aec_watts is found.mcr is found.mcr_quality is None


def test_a_counter_that_wrapped_gives_no_energy():
    assert efficiency(watched(Reading(0.0, 1, 0.1, 90.0), Reading(1.0, 1, 0.1, 5.0)), []).energy_joules is None


def test_the_average_of_one_moment_is_its_value():
    assert averaged([Reading(3.0, 7.0)], "memory_bytes") == 7.0
    assert averaged([Reading(3.0)], "memory_bytes") is None


def test_a_sampler_reads_at_either_end_even_of_an_instant():
    with Sampler(interval_s=60, of=ProcessMeter()) as seen:
        pass
    assert len(seen.readings) == 2
    assert seen.readings[0].at_s <= seen.readings[1].at_s


def test_a_sampler_polls_and_stops():
    with Sampler(interval_s=0.005, of=ProcessMeter()) as seen:
        deadline = time.monotonic() + 5
        while len(seen.readings) < 4 and time.monotonic() < deadline:
            sum(range(10_000))
    count = len(seen.readings)
    assert count >= 5
    time.sleep(0.02)
    assert len(seen.readings) == count  # the thread is gone
    assert [r.at_s for r in seen.readings] == sorted(r.at_s for r in seen.readings)


def test_this_process_has_memory_and_no_more_utilisation_than_all_of_it():
    of = ProcessMeter()
    first = of.read(0.0)
    second = of.read(1.0)
    assert first.utilisation is None
    assert 0 <= second.utilisation <= 1
    assert 1e6 < second.memory_bytes < of.memory_total


def test_energy_is_read_from_whole_packages_and_only_where_it_can_be(tmp_path):
    for name, value in (("intel-rapl:0", "2000000"), ("intel-rapl:0:0", "1500000"), ("intel-rapl:1", "500000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(value)
    assert ProcessMeter(tmp_path).read(0.0).joules == pytest.approx(2.5)  # the part of package 0 is not counted twice
    nothing = ProcessMeter(tmp_path / "absent")
    assert nothing.read(0.0).joules is None
    assert "energy" in nothing.notes[0]


class Nvml:
    """What this project uses of NVML."""

    class NVMLError(Exception):
        pass

    def __init__(self, energy: int | None) -> None:
        self.energy = energy

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"device{index}"

    def nvmlDeviceGetMemoryInfo(self, device):
        return type("Info", (), {"total": 8000, "used": 2000})

    def nvmlDeviceGetUtilizationRates(self, device):
        return type("Rates", (), {"gpu": 37})

    def nvmlDeviceGetTotalEnergyConsumption(self, device):
        if self.energy is None:
            raise self.NVMLError("not supported")
        return self.energy


def test_a_device_is_read_through_nvml():
    of = NvmlMeter(Nvml(4500))
    assert (of.memory_total, of.read(1.0)) == (8000, Reading(1.0, 2000.0, 0.37, 4.5))
    without = NvmlMeter(Nvml(None))
    assert without.read(1.0).joules is None
    assert "energy" in without.notes[0]


def test_without_a_device_this_process_is_the_meter(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert isinstance(meter(), ProcessMeter)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="interval_s=0"):
        Sampler(interval_s=0, of=Told())
