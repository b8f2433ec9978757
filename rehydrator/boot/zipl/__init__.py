"""What zipl writes to make a disk bootable on s390x, computed without running it.

``c_zipl`` declares the structures, ``pointers`` turns blocks into lists of pointers, ``read`` takes a boot record and
its bootmap apart, ``build`` puts them together again. All of it is a pure function of the parts.
"""
