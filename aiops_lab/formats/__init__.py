"""How are files of other tools read as spans frames, and spans frames written as such files?"""
