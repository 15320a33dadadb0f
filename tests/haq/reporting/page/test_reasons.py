from haq.reporting.page.reasons import Facts, OneBitLess, tags, why


def facts(**values: object) -> Facts:
    return Facts(4, 6, "latency", **values)  # type: ignore[arg-type]


def test_causes_are_named_for_and_against() -> None:
    assert why(facts(level=-1, sensitivity=3.0, cost=4.0, share=0.1)) == (
        "Fewer bits than most layers because it is expensive (4 times the latency of the median layer), although it is "
        "sensitive (3 times the error of the median layer at 4 bits): 10.0 % of the latency."
    )
    assert why(facts(level=1, sensitivity=0.4, cost=1.0)) == (
        "More bits than most layers, although it is tolerant (0.4 times the error of the median layer at 4 bits)."
    )
    assert why(facts(cost=0.3, share=0.01, bound="memory")) == (
        "About as many bits as most layers; it is cheap (0.3 times the latency of the median layer): 1.0 % of the "
        "latency, bound by memory."
    )


def test_free_bits_and_the_effect_of_one_bit_are_named() -> None:
    found = facts(level=1, cost=1.0, free=(8, 8), idle=(2, 6), less=(OneBitLess("weight", 0.0, 0.25),))
    assert why(found) == (
        "More bits than most layers because bits are free here: up to 8/8 bits cost no more, down to 2/6 bits cost no "
        "less; one weight bit less would save nothing and add 25 % to the expected error."
    )
    assert tags(found) == ("free bits",)


def test_a_pin_is_the_whole_reason() -> None:
    found = facts(pinned="Pinned by --pin fc=8", sensitivity=9.0, share=0.02, bound="compute")
    assert why(found) == "Pinned by --pin fc=8; 2.0 % of the latency, bound by compute."
    assert tags(found) == ("pinned", "sensitive", "compute-bound")


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert why(facts()) == ""
    assert tags(facts()) == ()
