"""The learned video model: a picture and a sentence become a hand doing the task.

Motion is predicted first, then rendered; decision 2 says why.
"""
