"""What each verb of the command line does. `cli.py` reads the arguments and calls one of these rooms; the dashboard and
the demo call the same ones.

    check, check_image, check_second, guard_check   can this plan run here?
    serve, detach, ensure                           the process around the agent; one that outlives the terminal
    operate, status, actor                          commands, and where the release stands
    doctor, doctor_report                           the seven pitfalls and the checklist
    advise, advise_options, advise_report, init     which strategy, and the first plan
"""
