"""How well scores predict what really happens: the science of score cards. Pure: arrays in, figures out, seeds from the caller.

    agreement  scores against real retraining: on random subsets, by whole contributors, without single records
    heads      a linear or neighbours model measured on questions that it has not seen, and really trained again
    noise      whether planted wrong labels are found
    copies     what copying a contributor's records pays
    plants     invented facts, as sentences, questions and paraphrases, for models that answer in words

What is measured of which model, in which parts, is in attribution/cardparts.py; `bench/attribution.py` uses the same.
"""
