"""An account on trial: it must accept numbers that add up, and notice each one that does not."""
import copy


def on_trial(right, wrongs, judged):
    """`wrongs`: (path to a number in `right`, by how much it is changed). `judged(numbers)`: the verdict, and
    what was printed. Returns the exit code."""
    failed = 0
    good, said = judged(right)
    if not good:
        failed += 1
        print(f"numbers that add up are not accepted:\n{said}")
    for path, change in wrongs:
        numbers = copy.deepcopy(right)
        place = numbers
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] += change
        good, said = judged(numbers)
        if good or "NOT " not in said:
            failed += 1
            print(f"{' '.join(map(str, path))} is wrong by {change}, and nobody notices:\n{said}")
    print(f"{1 + len(wrongs)} accounts, {failed} judged wrongly")
    return 1 if failed else 0
