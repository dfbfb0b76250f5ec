"""Will it fit, how long may a prompt be, how long will it take, and which flag binds?"""
