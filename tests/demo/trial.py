"""A test of checks of statistics: they must accept numbers that add up, and find each one that does not."""
import copy


def on_trial(right, wrongs, judged):
    """`wrongs`: (path to a number in `right`, by how much it is changed). `judged(numbers)`: whether the checks accept
    the numbers, and what they print. Returns the exit code."""
    failed = 0
    good, output = judged(right)
    if not good:
        failed += 1
        print(f"numbers that add up are not accepted:\n{output}")
    for path, change in wrongs:
        numbers = copy.deepcopy(right)
        place = numbers
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] += change
        good, output = judged(numbers)
        if good or "NOT " not in output:
            failed += 1
            print(f"{' '.join(map(str, path))} is wrong by {change}, and no check finds it:\n{output}")
    print(f"{1 + len(wrongs)} sets of numbers, {failed} judged wrongly")
    return 1 if failed else 0
