"""The training loop: step, optimizer, schedule and processes, and the assembly of a run.

`assembly.train_batches` assembles a run from any batches; `build.train` calls it with those of a
store. Promises that a resumed run ends with the bits of an undisturbed one (on a CPU), and that a
run on several processes is the same run. May import recipes/, data/, freezing/ and run/.
"""
