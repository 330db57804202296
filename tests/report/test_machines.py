"""Gains that compare two machines are said to."""

from cxrbench.report.machines import machine_lines


def test_runs_of_one_machine_need_no_word(results):
    results.benchmark()
    assert machine_lines(results.section()) == []


def test_an_arm_trained_elsewhere_than_its_real_only_runs_is_named(results):
    results.runs(0.70)
    results.runs(0.70, "cgan", device="slide rule")
    results.runs(0.70, "dcgan")
    results.runs(0.70, arm="longer", device="slide rule")
    _, said = machine_lines(results.section())
    assert "compared with: `cgan`, real films alone, trained longer. What" in said
    assert said in results.page()


def test_each_run_is_held_against_the_partner_of_its_own_seed(results):
    for seed, device in enumerate(("abacus", "slide rule")):
        results.run(0.70, seed=seed, device=device)
        results.run(0.70, "cgan", seed=seed, device=device)
    assert machine_lines(results.section()) == []
    results.run(0.70, "cgan", seed=1, device="abacus")
    assert "`cgan`" in machine_lines(results.section())[1]


def test_without_real_only_runs_nothing_is_compared(results):
    results.run(0.70, "cgan", device="slide rule")
    assert machine_lines(results.section()) == []


def test_another_number_of_cores_is_no_other_machine(results):
    results.runs(0.70, device="abacus, 2 cores")
    results.runs(0.70, "cgan", device="abacus, 1 core")
    assert machine_lines(results.section()) == []
